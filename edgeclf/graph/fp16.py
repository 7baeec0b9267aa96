"""Converts a model to FP16, for versions of TensorRT that take the precision from the file.

Input and output stay float32, as in every file of edgeclf.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, MutableSequence
from typing import TYPE_CHECKING

import numpy as np

from ..targets import FP16_QDQ_OPSET
from .onnx_file import drop_unused
from .prepare import without_weights

if TYPE_CHECKING:
    import onnx

LARGEST = 65504.0
"""The largest number of FP16."""
# A variance from its root back: epsilon and mean, then the squares.
_MEANS, _SQUARES = ("Add", "ReduceMean"), ("Mul", "Pow")


def halve(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
    """Return a model (onnx.ModelProto) whose weights and arithmetic are FP16, input ``image`` and output still float32.

    ranges: of the activations, by the method "minmax".  A node stays float32, between casts, if FP16 cannot hold what it
    reads or writes, or if it is part of a variance.  Pixels from 0 to 255 are exact in FP16.
    """
    import onnx
    from onnx import TensorProto, helper

    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    graph = halved.graph
    for tensor in graph.initializer:
        _halve_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _halve_tensor(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    image, logits = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        _rename(node.input, image, f"{image}_fp16")
        _rename(node.input, logits, f"{logits}_fp16")
        _rename(node.output, logits, f"{logits}_fp16")
    first = helper.make_node("Cast", [image], [f"{image}_fp16"], "/to_fp16", to=TensorProto.FLOAT16)
    last = helper.make_node("Cast", [f"{logits}_fp16"], [logits], "/to_fp32", to=TensorProto.FLOAT)
    graph.node.insert(0, first)
    graph.node.append(last)
    if kept := float32_nodes(model, ranges):
        _keep_float32(graph, model, kept)
    del graph.value_info[:]
    return halved


def halve_remainder(quantized: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
    """Return a Q/DQ model (onnx.ModelProto) whose scales and float operators are FP16; see halve().

    It has opset FP16_QDQ_OPSET, the first whose QuantizeLinear accepts FP16.
    """
    from onnx import numpy_helper, version_converter

    newer = version_converter.convert_version(quantized, FP16_QDQ_OPSET)
    scales = {node.input[1] for node in newer.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in newer.graph.initializer:
        if tensor.name in scales:
            rounded = _round_up(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return halve(newer, ranges)


def float32_nodes(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> set[int]:
    """Return the positions of the nodes of a float32 model (onnx.ModelProto) that must not become FP16.

    They read or write a tensor that exceeds FP16, read a constant that would become 0, are not defined for FP16, or belong
    to a variance (of layer norm), whose squares FP16 rounds too much: from the root back to the squares.
    """
    graph = model.graph
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    wide = {name for name, (low, high) in ranges.items() if not max(-low, high) <= LARGEST}
    vanishing = {name for name, values in _stored(graph).items() if _vanishes(values)}
    made_by = {name: index for index, node in enumerate(graph.node) for name in node.output}
    found = {
        index
        for index, node in enumerate(graph.node)
        if not wide.isdisjoint((*node.input, *node.output))
        or not vanishing.isdisjoint(node.input)
        or not _takes_fp16(node.op_type, opset)
    }
    pending = [index for index, node in enumerate(graph.node) if node.op_type == "Sqrt"]
    while pending:
        index = pending.pop()
        found.add(index)
        if graph.node[index].op_type not in _SQUARES:
            makers = [made_by[name] for name in graph.node[index].input if name in made_by]
            pending += [maker for maker in makers if graph.node[maker].op_type in (*_MEANS, *_SQUARES)]
    return {index for index in found if graph.node[index].op_type != "Constant"}


def _stored(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Return the constants of a graph by name: its initializers, and the values of its Constant nodes."""
    import onnx
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].type == onnx.AttributeProto.TENSOR:
            tensors[node.output[0]] = node.attribute[0].t
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}


@functools.cache
def _takes_fp16(operator: str, opset: int) -> bool:
    """Return whether an opset defines an operator for FP16 wherever it does for float32."""
    import onnx

    try:
        schema = onnx.defs.get_schema(operator, opset)
    except onnx.defs.SchemaError:
        return True  # another domain's, or newer: the check of the file tells
    kinds = [set(value.types) for value in (*schema.inputs, *schema.outputs)]
    return all("tensor(float16)" in types for types in kinds if "tensor(float)" in types)


def _vanishes(values: np.ndarray) -> bool:
    """Return whether a constant of one float is not 0, but would be in FP16."""
    return bool(
        values.dtype == np.float32 and values.size == 1 and values.any() and not values.astype(np.float16).any()
    )


def _keep_float32(graph: onnx.GraphProto, model: onnx.ModelProto, kept: set[int]) -> None:
    """Let the nodes at these positions of the float32 model compute in float32 in its FP16 form, in place.

    graph: the FP16 form, whose first node is a cast that the model does not have.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    stored = {name: values for name, values in _stored(model.graph).items() if values.dtype == np.float32}
    known = onnx.shape_inference.infer_shapes(without_weights(model)).graph.value_info
    floats = {value.name for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    image, logits = graph.input[0].name, graph.output[0].name
    widened = {f"{image}_fp16": image}  # an FP16 tensor's float32 form
    nodes = []
    for index, node in enumerate(graph.node):
        if index - 1 not in kept:
            nodes.append(node)
            continue
        for position, name in enumerate(node.input):
            if name not in widened and (name in stored or name in floats):
                widened[name] = f"{name}_float32"
                if name in stored:
                    graph.initializer.append(numpy_helper.from_array(stored[name], widened[name]))
                else:
                    nodes.append(helper.make_node("Cast", [name], [widened[name]], to=TensorProto.FLOAT))
            node.input[position] = widened.get(name, name)
        del node.attribute[:]
        node.attribute.extend(model.graph.node[index - 1].attribute)
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name in floats or name == f"{logits}_fp16":
                widened[name] = node.output[position] = f"{name}_float32"
                nodes.append(helper.make_node("Cast", [widened[name]], [name], to=TensorProto.FLOAT16))
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph)


def _round_up(scales: np.ndarray) -> np.ndarray:
    """Return FP16 scales that are at least as large, so that nothing is clipped; TensorRT refuses a scale of 0."""
    halves = scales.astype(np.float16)
    return np.where(halves < scales, np.nextafter(halves, np.float16(np.inf)), halves)


def _halve_tensor(tensor: onnx.TensorProto) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT:
        # Bounds that mean "none" are float32's largest number, which FP16 would make infinite.
        values = np.clip(numpy_helper.to_array(tensor), -LARGEST, LARGEST).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _rename(names: MutableSequence[str], old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new
