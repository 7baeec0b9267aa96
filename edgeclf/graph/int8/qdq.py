"""Writes the Q/DQ form of a float model for one family of backends, from its activations' ranges."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ...targets import Flavor
from ..onnx_file import drop_unused
from .forms import STANDARD, Choices, Form, choose
from .ranges import Ranges, weight_scales
from .transformer import is_transformer

if TYPE_CHECKING:
    import onnx


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
    fuses_sums = flavor.tensorrt and not is_transformer(model.graph)
    for name in _residual_inputs(model.graph, float_nodes) if fuses_sums else ():
        quantizer.quantize_activation_tensor(name)
    with _without_warnings():
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized = quantizer.model.model
    if not flavor.tensorrt:
        _store_in_8_bits(quantized.graph)
    rounding.apply(quantized, flavor.sums_of_16_bits)
    del quantized.graph.value_info[:]
    drop_unused(quantized.graph)
    return quantized


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep ONNX Runtime's quantizer from warning of each batch norm that no channel's scale fits, as in RepVGG.

    It logs to the root logger, which would give a program that has set up no logging a handler for good.
    """
    before, handler = logging.root.manager.disable, logging.NullHandler()
    logging.disable(max(before, logging.WARNING))
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)
        logging.disable(before)


def _store_in_8_bits(graph: onnx.GraphProto) -> None:
    """Store the weights in 8 bits; nothing reads the floats and their QuantizeLinear any more.

    The quantizer would store the same, but round each channel in a call of its own: half of the time of writing a file.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    replaced = {}
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in stored:
            continue
        weights, steps, zero = (numpy_helper.to_array(stored[name]) for name in node.input)
        if steps.ndim:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            shape = [-1 if place == axis % weights.ndim else 1 for place in range(weights.ndim)]
            steps, zero = steps.reshape(shape), zero.reshape(shape)
        limits = np.iinfo(zero.dtype)
        rounded = np.clip(np.round(weights / steps) + zero, limits.min, limits.max).astype(zero.dtype)
        replaced[node.output[0]] = f"{node.input[0]}_quantized"
        graph.initializer.append(numpy_helper.from_array(rounded, replaced[node.output[0]]))
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = replaced.get(name, name)


def _extra_options(model: onnx.ModelProto, flavor: Flavor, choices: Choices) -> dict[str, object]:
    options: dict[str, object] = {
        "TensorQuantOverrides": weight_scales(model.graph, flavor.sums_of_16_bits),
        "OpTypesToExcludeOutputQuantization": list(choices.float_outputs),
        "AddQDQPairToWeight": True,
    }
    return {**options, **_tensorrt_options()} if flavor.tensorrt else options


def _tensorrt_options() -> dict[str, object]:
    """Return the quantizer's extra options as NVIDIA's Model-Optimizer sets them.

    TensorRT refuses zero points other than 0 and INT32 biases, and expects float weights with their own Q/DQ pair.
    """
    return {
        "ActivationSymmetric": True,
        "QuantizeBias": False,
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
