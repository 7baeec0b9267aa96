"""Writes the Q/DQ form of a float model for one family of backends, from its activations' ranges."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from ..targets import Flavor
from .ranges import Ranges, weight_scales
from .rounding import Rounding

if TYPE_CHECKING:
    import onnx

_POOLING = ("GlobalAveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze")
_FEW_INPUTS = 16
_FEW_CHANNELS = 32
"""A convolution with at most this many channels on both sides computes little relative to what it reads and writes."""


def write_flavor(
    model: onnx.ModelProto, flavor: Flavor, ranges: Ranges, rounding: Rounding, float_nodes: Collection[str] = ()
) -> onnx.ModelProto:
    """Return the Q/DQ form (onnx.ModelProto) of a prepared FP32 model for one family of backends.

    ranges: of every activation.  rounding: of the same model.  float_nodes: names of further nodes that stay float.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    assert flavor.activations
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    operators = _operators(flavor)
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType[flavor.activations],
        tensors_range=TensorsData(CalibrationMethod.MinMax, _float32(ranges)),
        nodes_to_quantize=[],
        nodes_to_exclude=[*_float_nodes(model, flavor), *float_nodes],
        op_types_to_quantize=operators,
        extra_options=_extra_options(model, flavor, operators),
    )
    for name in _residual_inputs(model.graph, float_nodes) if flavor.tensorrt else ():
        quantizer.quantize_activation_tensor(name)
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized = quantizer.model.model
    rounding.apply(quantized, flavor.sums_of_16_bits)
    del quantized.graph.value_info[:]
    drop_unused_constants(quantized.graph)
    return quantized


def drop_unused_constants(graph: onnx.GraphProto) -> None:
    """Remove constants that nothing reads any more, such as the bounds of a Clip that its Q/DQ pair replaces; backends warn of them."""
    used = {name for node in graph.node for name in node.input}
    for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in used]:
        graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _operators(flavor: Flavor) -> list[str]:
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    # TensorRT fuses what follows a convolution into it; Q/DQ around anything else would prevent that.
    return ["Conv", "ConvTranspose"] if flavor.tensorrt else sorted(set(QDQRegistry) | set(QLinearOpsRegistry))


def _extra_options(model: onnx.ModelProto, flavor: Flavor, operators: list[str]) -> dict[str, Any]:
    scales = weight_scales(model.graph, flavor.sums_of_16_bits)
    return {"TensorQuantOverrides": scales, **(_tensorrt_options(operators) if flavor.tensorrt else {})}


def _tensorrt_options(operators: list[str]) -> dict[str, Any]:
    """Return the quantizer's extra options as NVIDIA's Model-Optimizer sets them.

    TensorRT refuses zero points other than 0 and INT32 biases, and expects float weights with their own Q/DQ pair.
    """
    return {
        "ActivationSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "OpTypesToExcludeOutputQuantization": operators,
        "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "ConvTranspose": 1},
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


def _float_nodes(model: onnx.ModelProto, flavor: Flavor) -> list[str]:
    """Return the nodes that stay float: those where 8 bits cost the most accuracy and save the least time.

    They are the layout and normalization of the pixels, convolutions of few channels (the first layer and the first block of
    EfficientNet-Lite0, which cause most of its noise and are not faster in INT8), and the last layer with the pooling
    before it.
    """
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    tail = _tail(model.graph)
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Transpose"
        or node.name in tail
        or (node.op_type == "Conv" and _has_few_channels(node, shapes[node.input[1]], flavor))
    ]


def _tail(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the node that outputs the logits and of the pooling before it."""
    made_by = {name: node for node in graph.node for name in node.output}
    node = made_by[graph.output[0].name]
    names = {node.name}
    while (node := made_by.get(node.input[0])) is not None and node.op_type in _POOLING:
        names.add(node.name)
    return names


def _has_few_channels(convolution: onnx.NodeProto, shape: list[int], flavor: Flavor) -> bool:
    if flavor.tensorrt and min(shape[:2]) <= _FEW_INPUTS:
        return True  # as NVIDIA's Model-Optimizer does; includes depthwise convolutions, with one channel a group
    groups = next((attribute.i for attribute in convolution.attribute if attribute.name == "group"), 1)
    outputs, inputs = shape[0], shape[1] * groups
    return inputs < _FEW_INPUTS or max(inputs, outputs) <= _FEW_CHANNELS
