"""Computes a device's model on the host as the device does, in a form that ONNX Runtime has fast kernels for.

On x86 without VNNI, kernels add S8S8 products in 16 bits, which overflow; for FP16 there are hardly any kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.runners.base import ModelPath
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

from ..targets import FLAVORS, IR_VERSIONS, OPSET, Flavor
from .prepare import without_weights

if TYPE_CHECKING:
    import onnx

# Selects the kernels whose sums cannot overflow, which are slower.
_EXACT_SUMS = {"session.x64quantprecision": "1"}
# Each Q and DQ stays where it is, as TensorRT's files mean it, and weights are dequantized once.  ONNX Runtime's own fusions
# move some, which makes the logits less exact and the inference slower (benchmarks/NOTES.md).
_NO_FUSION = {"session.disable_quant_qdq": "1"}
# They give the same whether their input or their output is rounded: they move values, or cut them off at rounded bounds.
_EXACT = frozenset(("Clip", "Constant", "Flatten", "Identity", "MaxPool", "Relu", "Reshape", "Transpose"))


def imitates(name: str) -> bool:
    """Return whether a file is for another backend or processor, so that its time on ONNX Runtime says nothing here.

    name: of the model, as in targets.FLAVORS; a file of any other name is for every backend.
    """
    flavor = FLAVORS.get(name)
    return flavor is not None and (flavor.activations != "QUInt8" or "onnxruntime" not in flavor.backends)


class HostRunner(OnnxRuntimeRunner):
    """A model file on ONNX Runtime, computed as its target device computes it.

    name    of the model, as in targets.FLAVORS; the file of any other name, such as fp32, is computed as it is

    imitates    see imitates()
    """

    def __init__(self, model_path: ModelPath, threads: int | None = None, name: str = "fp32") -> None:
        flavor = FLAVORS.get(name)
        self.imitates = imitates(name)
        self._rewrite: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None
        if flavor and flavor.half_of:
            self._rewrite = widen
        elif flavor and flavor.activations == "QInt8" and not flavor.tensorrt:
            self._rewrite = shift
        super().__init__(model_path, threads, config=_config(flavor) if flavor else None)

    def _bytes(self, model_path: ModelPath) -> bytes:
        data = super()._bytes(model_path)
        if self._rewrite is None:
            return data
        import onnx

        return bytes(self._rewrite(onnx.ModelProto.FromString(data)).SerializeToString())


def _config(flavor: Flavor) -> dict[str, str]:
    """Return ONNX Runtime's session options for a flavor's file."""
    if flavor.tensorrt:
        return _NO_FUSION
    return _EXACT_SUMS if flavor.activations == "QInt8" and sums_overflow() else {}


@cache
def sums_overflow() -> bool:
    """Return whether ONNX Runtime's usual kernels on this processor add products of 8 bits in 16 bits: asked by one product."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    depth = 64
    weights = numpy_helper.from_array(np.full((depth, 16), 127, np.int8), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["image", "weights"], ["sums"])],
        "sums",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, depth])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [1, 16])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSIONS[OPSET])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"image": np.full((1, depth), 255, np.uint8)})
    return bool((sums != depth * 127 * 255).any())


def shift(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a Q/DQ model (onnx.ModelProto) whose INT8 activations are UINT8, each value and its zero point 128 more.

    Exactly the same model: products and sums do not change, and values saturate at the same numbers.
    """
    from onnx import numpy_helper

    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    shifted: set[str] = set()
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.input[0] in stored or len(node.input) < 3:
            continue
        zero = numpy_helper.to_array(stored[node.input[2]])
        if zero.dtype != np.int8:
            continue
        name = f"{node.input[2]}_uint8"
        if name not in shifted:
            graph.initializer.append(numpy_helper.from_array((zero.astype(int) + 128).astype(np.uint8), name))
            shifted.add(name)
        node.input[2] = name
    del graph.value_info[:]
    return model


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an FP16 Q/DQ model (onnx.ModelProto) in float32, with each layer's result rounded to FP16 as before.

    Dequantized values are not rounded: TensorRT's INT8 layers take the quantized ones.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = model.graph
    known = onnx.shape_inference.infer_shapes(without_weights(model)).graph.value_info
    unrounded = {value.name for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    tensors = [a.t for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
    for tensor in (*graph.initializer, *tensors):
        _widen_tensor(tensor)
    nodes: list[onnx.NodeProto] = []
    rounded: set[str] = set()
    for node in graph.node:
        reads = unrounded.intersection(node.input) if node.op_type not in _EXACT else set()
        for name in sorted(reads - rounded):
            nodes.append(helper.make_node("Cast", [name], [f"{name}_half"], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [f"{name}_half"], [f"{name}_rounded"], to=TensorProto.FLOAT))
        rounded |= reads
        for index, name in enumerate(node.input):
            if name in reads:
                node.input[index] = f"{name}_rounded"
        if node.op_type == "Cast" and node.attribute[0].i in (TensorProto.FLOAT, TensorProto.FLOAT16):
            node.op_type = "Identity"
            del node.attribute[:]
        elif node.op_type == "DequantizeLinear" or (node.op_type in _EXACT and unrounded.isdisjoint(node.input)):
            unrounded.difference_update(node.output)
        nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return model


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
