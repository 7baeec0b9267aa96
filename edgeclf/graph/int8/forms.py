"""The forms of a Q/DQ file: which operators compute in 8 bits.

No form is the fastest everywhere.  The first layers, with few channels, gain little on ONNX Runtime and much on OpenVINO, and cost
accuracy.  The last layer gains if there are many labels.  Around the gates of squeeze and excitation, and around swish,
ONNX Runtime gains from 8 bits, and OpenVINO loses; sums of branches gain on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ...targets import Flavor
from ..layers import WEIGHTED
from .transformer import is_transformer

if TYPE_CHECKING:
    import onnx

_POOLING = ("GlobalAveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze")
_FEW_INPUTS = 16
_FEW_CHANNELS = 32
"""A convolution with at most this many channels on both sides computes little relative to what it reads and writes."""


@dataclass(frozen=True)
class Form:
    """A choice of the operators that compute in 8 bits."""

    name: str
    every_operator: bool = True
    """Every operator that the backends have in 8 bits, such as sums of branches, or only layers with weights."""
    gates: bool = True
    """With every operator, those of squeeze and excitation, and of swish, too."""
    first_layers: bool = False
    """Convolutions of few channels too, which are those near the image."""
    last_layer: bool = False
    """The layer that outputs the logits too, and the pooling before it; the logits themselves are not rounded."""


STANDARD = Form("standard")
_WEIGHTED = Form("weighted", every_operator=False)
_SIGMOIDS = ("Sigmoid", "HardSigmoid", "HardSwish")
_GATES = (*_SIGMOIDS, "Mul")
"""Operators of squeeze and excitation, and of swish."""
FORMS = {
    form.name: form
    for form in (
        STANDARD,
        _WEIGHTED,
        Form("ungated", gates=False),
        Form("first-layers", first_layers=True),
        Form("all-weighted", every_operator=False, first_layers=True, last_layer=True),
        Form("all-ungated", gates=False, first_layers=True, last_layer=True),
        Form("all-layers", first_layers=True, last_layer=True),
    )
}


def usual_form(flavor: Flavor, graph: onnx.GraphProto, wanted: str = "fastest") -> Form:
    """Return the form of a flavor's file before any is timed; ``wanted``: a form's name, or fastest.

    graph: onnx.GraphProto.  TensorRT has its own form.
    """
    if flavor.tensorrt:
        return STANDARD
    if wanted in FORMS:
        return FORMS[wanted]
    gated = any(node.op_type in _SIGMOIDS for node in graph.node)
    return _WEIGHTED if gated and flavor.only_openvino else STANDARD


def forms_of(graph: onnx.GraphProto) -> list[Form]:
    """Return the forms in which a graph's files may differ."""
    gated = any(node.op_type in _GATES for node in graph.node)
    return [form for form in FORMS.values() if form.gates or gated]


class Choices(NamedTuple):
    """The choices of a form for a model: two forms with the same choices give the same file."""

    operators: tuple[str, ...]
    """The operators to quantize, of those that the model has."""
    float_nodes: tuple[str, ...]
    """Names of nodes of these operators that stay float."""
    float_outputs: tuple[str, ...]
    """Operators whose outputs stay float."""


def choose(model: onnx.ModelProto, flavor: Flavor, form: Form) -> Choices:
    """Return what is quantized of a prepared FP32 model for a flavor in a form."""
    operator_of = {node.name: node.op_type for node in model.graph.node}
    there = set(operator_of.values())
    operators = tuple(one for one in _operators(model.graph, flavor, form) if one in there)
    # What follows a matrix product of a transformer is float, as logits are, and ONNX Runtime has kernels from INT8 to float.
    products = ("Gemm", "MatMul") if form.last_layer or is_transformer(model.graph) else ()
    outputs = operators if flavor.tensorrt else tuple(one for one in products if one in there)
    nodes = tuple(name for name in _float_nodes(model, flavor, form) if operator_of[name] in operators)
    return Choices(operators, nodes, outputs)


def _operators(graph: onnx.GraphProto, flavor: Flavor, form: Form) -> list[str]:
    """Return the operators to quantize.

    Around attention, layer norm and GELU, INT8 loses much accuracy and saves no time, so of such networks only the layers
    with weights are quantized.
    """
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    if is_transformer(graph):
        return list(WEIGHTED)
    if flavor.tensorrt:
        # TensorRT fuses what follows a convolution into it; Q/DQ around anything else would prevent that.
        return ["Conv", "ConvTranspose"]
    if not form.every_operator:
        return list(WEIGHTED)
    return sorted((set(QDQRegistry) | set(QLinearOpsRegistry)).difference(() if form.gates else _GATES))


def _float_nodes(model: onnx.ModelProto, flavor: Flavor, form: Form) -> list[str]:
    """Return the nodes that stay float: those where 8 bits cost the most accuracy and save the least time.

    They are the layout and normalization of the pixels and, unless the form has them in 8 bits, the last layer with the pooling
    before it, and convolutions of few channels: the first layer and the first block of EfficientNet-Lite0, which cause most of
    its noise.  So do products of two activations, and convolutions of one dimension.
    """
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    tail = set() if form.last_layer and not flavor.tensorrt else _tail(model.graph)
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Transpose"
        or node.name in tail
        or (node.op_type in WEIGHTED and _stays_float(node, shapes.get(node.input[1]), flavor, form))
    ]


def _tail(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the node that outputs the logits and of the pooling before it."""
    made_by = {name: node for node in graph.node for name in node.output}
    node = made_by[graph.output[0].name]
    names = {node.name}
    while (node := made_by.get(node.input[0])) is not None and node.op_type in _POOLING:
        names.add(node.name)
    return names


def _stays_float(node: onnx.NodeProto, shape: list[int] | None, flavor: Flavor, form: Form) -> bool:
    """Return whether a layer stays float; shape: of its weights, None if they are computed (as in attention)."""
    if shape is None or len(shape) != (4 if "Conv" in node.op_type else 2):
        return True
    if node.op_type != "Conv":
        return False
    if form.first_layers and not flavor.tensorrt:
        return shape[1:] == [1, 1, 1]  # a factor for each channel: the normalization of the pixels
    return _has_few_channels(node, shape, flavor)


def _has_few_channels(convolution: onnx.NodeProto, shape: list[int], flavor: Flavor) -> bool:
    if flavor.tensorrt and min(shape[:2]) <= _FEW_INPUTS:
        return True  # as NVIDIA's Model-Optimizer does; includes depthwise convolutions, with one channel a group
    groups = next((attribute.i for attribute in convolution.attribute if attribute.name == "group"), 1)
    outputs, inputs = shape[0], shape[1] * groups
    return inputs < _FEW_INPUTS or max(inputs, outputs) <= _FEW_CHANNELS
