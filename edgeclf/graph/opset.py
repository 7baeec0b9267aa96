"""Rewrites a graph of another opset as one of opset 13.

onnx.version_converter raises older opsets, but has no way down for operators as common as Relu.  Most operators of newer
opsets have only gained types; the others that classifiers use are rewritten here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeclf_runtime.runners.base import brief

from ..errors import ModelError
from ..targets import OPSET

if TYPE_CHECKING:
    import onnx

# Float operators whose newer versions differ from that of opset 13 only in types and in attributes of _NEUTRAL.
_SAME = frozenset(
    [
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "ConvTranspose",
        "CumSum",
        "Div",
        "Dropout",
        "Elu",
        "Equal",
        "Flatten",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "GreaterOrEqual",
        "HardSigmoid",
        "Identity",
        "InstanceNormalization",
        "LeakyRelu",
        "LessOrEqual",
        "LpNormalization",
        "MaxPool",
        "Mul",
        "Neg",
        "PRelu",
        "Pad",
        "Pow",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "ScatterElements",
        "ScatterND",
        "Selu",
        "Shape",
        "Sign",
        "Size",
        "Softplus",
        "Softsign",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "ThresholdedRelu",
        "TopK",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)
# Attributes that opset 13 lacks, with the value that means what opset 13 does, None for any value.
_NEUTRAL: dict[str, int | bytes | None] = {
    "allowzero": None,  # refused below if the shape has a 0
    "saturate": None,  # of conversions to float8
    "training_mode": 0,
    "noop_with_empty_axes": 0,
    "num_outputs": None,  # the number of outputs of the node
    "antialias": 0,
    "keep_aspect_ratio_policy": b"stretch",
    "start": 0,
    "round_mode": None,
}
_REDUCTIONS = frozenset(
    f"Reduce{name}" for name in ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"]
)


def with_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with opset OPSET; ModelError names the operators that cannot be rewritten."""
    from onnx import version_converter

    version = model.opset_import[0].version
    if version == OPSET:
        return model
    if version > OPSET:
        return _lowered(model, version)
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # RuntimeError, and others of the converter
        raise ModelError(
            f"the model has opset {version}, which cannot be converted to {OPSET} ({brief(error)}): "
            f"export it again with opset {OPSET}"
        ) from None


def _lowered(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    refused = set()
    for index, node in enumerate(model.graph.node):
        found = _rewritten(node, version, stored, f"/edgeclf/{node.op_type}_{index}")
        if found is None:
            refused.add(node.op_type)
        nodes += found or []
    if refused:
        raise ModelError(
            f"the model has opset {version}, and its operators {', '.join(sorted(refused))} cannot be written with {OPSET}, "
            f"the newest that every target reads: export it again with opset {OPSET}, in torch with opset_version={OPSET}, "
            "dynamo=False"
        )
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(stored.values())
    model.opset_import[0].version = OPSET
    return model


def _rewritten(
    node: onnx.NodeProto, version: int, stored: dict[str, onnx.TensorProto], prefix: str
) -> list[onnx.NodeProto] | None:
    """Return a node as nodes of opset OPSET, whose constants are added to ``stored``; None if there is no way."""
    import onnx

    if onnx.defs.get_schema(node.op_type, version, "").since_version <= OPSET:
        return [node]
    if node.op_type in _REWRITES:
        return _Writer(node, stored, prefix).write(_REWRITES[node.op_type])
    if node.op_type in _REDUCTIONS and not _take_axes(node, stored):
        return None
    return [node] if _fits(node, stored) else None


def _take_axes(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> bool:
    """Move a reduction's axes from its second input into an attribute; return whether they are constant."""
    import onnx
    from onnx import numpy_helper

    if len(node.input) > 1 and node.input[1]:
        if node.input[1] not in stored:
            return False
        axes = numpy_helper.to_array(stored[node.input[1]]).tolist()
        node.attribute.append(onnx.helper.make_attribute("axes", axes))
    del node.input[1:]
    return True


def _fits(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> bool:
    """Remove attributes that change nothing; return whether opset OPSET has the rest and means the same by it."""
    import onnx
    from onnx import numpy_helper

    if node.op_type not in _SAME | _REDUCTIONS:
        return False
    old = onnx.defs.get_schema(node.op_type, OPSET, "")
    for attribute in [one for one in node.attribute if one.name not in old.attributes]:
        value = onnx.helper.get_attribute_value(attribute)
        neutral = _NEUTRAL.get(attribute.name, b"")
        ones = attribute.name == "dilations" and set(value) <= {1}
        if not ones and neutral is not None and value != neutral:
            return False
        target = stored.get(node.input[1]) if attribute.name == "allowzero" and value else None
        if target is not None and not numpy_helper.to_array(target).all():
            return False
        node.attribute.remove(attribute)
    while node.input and not node.input[-1]:
        del node.input[-1]
    return len(node.input) <= old.max_input


class _Writer:
    """Writes several nodes in place of one."""

    def __init__(self, node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], prefix: str) -> None:
        import onnx

        self.node, self.input = node, list(node.input)
        self.attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        self._stored, self._prefix = stored, prefix
        self._nodes: list[onnx.NodeProto] = []
        self._names = (f"{prefix}/{number}" for number in range(100))

    def write(self, rewrite: Callable[[_Writer], str | None]) -> list[onnx.NodeProto] | None:
        """Return the nodes, or None if the rewrite does not know the node's attributes."""
        result = rewrite(self)
        if result is None:
            return None
        self._nodes[-1].output[0] = self.node.output[0]
        return self._nodes

    def add(self, kind: str, *inputs: str | float, **attributes: Any) -> str:
        """Add a node; numbers become constants.  Returns its output's name."""
        from onnx import helper, numpy_helper

        name = next(self._names)
        names = []
        for value in inputs:
            if not isinstance(value, str):
                tensor = numpy_helper.from_array(np.array(value, np.float32), next(self._names))
                self._stored[tensor.name] = tensor
                value = tensor.name
            names.append(value)
        self._nodes.append(helper.make_node(kind, names, [name], name=name, **attributes))
        return name


def _hard_swish(write: _Writer) -> str:
    (value,) = write.input
    return write.add("Mul", value, write.add("HardSigmoid", value, alpha=1 / 6, beta=0.5))


def _mish(write: _Writer) -> str:
    (value,) = write.input
    return write.add("Mul", value, write.add("Tanh", write.add("Softplus", value)))


def _gelu(write: _Writer) -> str:
    (value,) = write.input
    if write.attributes.get("approximate", b"none") == b"tanh":
        cubed = write.add("Mul", write.add("Mul", write.add("Mul", value, value), value), 0.044715)
        bent = write.add("Tanh", write.add("Mul", write.add("Add", value, cubed), math.sqrt(2 / math.pi)))
    else:
        bent = write.add("Erf", write.add("Div", value, math.sqrt(2)))
    return write.add("Mul", write.add("Mul", value, write.add("Add", bent, 1.0)), 0.5)


def _layer_norm(write: _Writer) -> str | None:
    value, scale, *bias = write.input
    if write.attributes.get("axis", -1) != -1 or len(write.node.output) > 1:
        return None
    centered = write.add("Sub", value, write.add("ReduceMean", value, axes=[-1], keepdims=1))
    variance = write.add("ReduceMean", write.add("Mul", centered, centered), axes=[-1], keepdims=1)
    deviation = write.add("Sqrt", write.add("Add", variance, write.attributes.get("epsilon", 1e-5)))
    scaled = write.add("Mul", write.add("Div", centered, deviation), scale)
    return write.add("Add", scaled, bias[0]) if bias and bias[0] else scaled


_REWRITES: dict[str, Callable[[_Writer], str | None]] = {
    "Gelu": _gelu,
    "HardSwish": _hard_swish,
    "LayerNormalization": _layer_norm,
    "Mish": _mish,
}
