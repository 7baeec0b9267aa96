"""Writes the Q/DQ form of a float model for one family of backends, from its activations' ranges."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ...graph.layers import WEIGHTED
from ...graph.onnx_file import drop_unused
from ...targets import Flavor
from ..ranges import Ranges, weight_scales
from .forms import GATES, STANDARD, Form

if TYPE_CHECKING:
    import onnx

# Operators of softmax attention, GELU, and layer norm.
_OF_TRANSFORMERS = ("Softmax", "Erf", "Pow", "Sqrt", "Tanh")
_POOLING = ("GlobalAveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze")
_FEW_INPUTS = 16
_FEW_CHANNELS = 32
"""A convolution with at most this many channels on both sides computes little relative to what it reads and writes."""


class Weights(Protocol):
    """The weights of a Q/DQ file: rounded ones, or fine-tuned ones."""

    def apply(self, quantized: onnx.ModelProto, sums_of_16_bits: bool = False) -> None:
        """Replace the weights of a Q/DQ model, in place, keeping its scales."""


def write_flavor(
    model: onnx.ModelProto,
    flavor: Flavor,
    ranges: Ranges,
    rounding: Weights,
    float_nodes: Collection[str] = (),
    form: Form = STANDARD,
) -> onnx.ModelProto:
    """Return a prepared FP32 model with Q/DQ pairs (onnx.ModelProto) for one family of backends.

    ranges: of every activation.  rounding: Rounding or TunedWeights, of the same model.  float_nodes: names of further nodes that stay
    float.  form: which operators compute in 8 bits; TensorRT has its own rule.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    assert flavor.activations
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    choices = choose(model, flavor, form)
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType[flavor.activations],
        tensors_range=TensorsData(CalibrationMethod.MinMax, _float32(ranges)),
        nodes_to_quantize=[],
        nodes_to_exclude=[*choices.float_nodes, *float_nodes],
        op_types_to_quantize=list(choices.operators),
        extra_options=_extra_options(model, flavor, choices),
    )
    fuses_sums = flavor.tensorrt and not _is_transformer(model.graph)
    for name in _residual_inputs(model.graph, float_nodes) if fuses_sums else ():
        quantizer.quantize_activation_tensor(name)
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized = quantizer.model.model
    rounding.apply(quantized, flavor.sums_of_16_bits)
    del quantized.graph.value_info[:]
    drop_unused(quantized.graph)
    return quantized


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
    products = ("Gemm", "MatMul") if form.last_layer or _is_transformer(model.graph) else ()
    outputs = operators if flavor.tensorrt else tuple(one for one in products if one in there)
    nodes = tuple(name for name in _float_nodes(model, flavor, form) if operator_of[name] in operators)
    return Choices(operators, nodes, outputs)


def _operators(graph: onnx.GraphProto, flavor: Flavor, form: Form) -> list[str]:
    """Return the operators to quantize.

    Around attention, layer norm and GELU, INT8 loses much accuracy and saves no time, so of such networks only the layers
    with weights are quantized.
    """
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    if _is_transformer(graph):
        return list(WEIGHTED)
    if flavor.tensorrt:
        # TensorRT fuses what follows a convolution into it; Q/DQ around anything else would prevent that.
        return ["Conv", "ConvTranspose"]
    if not form.every_operator:
        return list(WEIGHTED)
    return sorted((set(QDQRegistry) | set(QLinearOpsRegistry)).difference(() if form.gates else GATES))


def _is_transformer(graph: onnx.GraphProto) -> bool:
    return any(node.op_type in _OF_TRANSFORMERS for node in graph.node)


def _extra_options(model: onnx.ModelProto, flavor: Flavor, choices: Choices) -> dict[str, Any]:
    options: dict[str, Any] = {
        "TensorQuantOverrides": weight_scales(model.graph, flavor.sums_of_16_bits),
        "OpTypesToExcludeOutputQuantization": list(choices.float_outputs),
    }
    return {**options, **_tensorrt_options()} if flavor.tensorrt else options


def _tensorrt_options() -> dict[str, Any]:
    """Return the quantizer's extra options as NVIDIA's Model-Optimizer sets them.

    TensorRT refuses zero points other than 0 and INT32 biases, and expects float weights with their own Q/DQ pair.
    """
    return {
        "ActivationSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "ConvTranspose": 1, "MatMul": 1, "Gemm": 0},
        "ForceQuantizeNoInputCheck": True,
        "QDQDisableWeightAdjustForInt32Bias": True,
        "DedicatedQDQPair": False,
    }


def _float32(ranges: Ranges) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in ranges.items()}


def _residual_inputs(graph: onnx.GraphProto, float_nodes: Collection[str]) -> list[str]:
    """Return one input of each Add that joins two branches: the sum then fuses into the other branch's convolution.

    In timm's backbones the shortcut is the second input; if it also feeds a convolution, it is quantized once for both.
    """
    made = {name for node in graph.node if node.op_type != "Constant" for name in node.output}
    adds = [node.input for node in graph.node if node.op_type == "Add" and node.name not in float_nodes]
    return [names[1] for names in adds if made.issuperset(names)]


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
