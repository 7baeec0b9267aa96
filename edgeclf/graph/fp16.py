"""Converts a model to FP16, for versions of TensorRT that take the precision from the file.

Input and output stay float32, as in every file of edgeclf.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelError
from ..targets import FP16_QDQ_OPSET

if TYPE_CHECKING:
    import onnx

LARGEST = 65504.0
"""The largest number of FP16."""


def halve(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
    """Return a model (onnx.ModelProto) whose weights and arithmetic are FP16, input ``image`` and output still float32.

    ranges: of every activation, by the method "minmax".  Raises ModelError if an activation
    exceeds FP16; pixels from 0 to 255 are exact in it.
    """
    import onnx
    from onnx import TensorProto, helper

    wide = {name: max(-low, high) for name, (low, high) in ranges.items() if not max(-low, high) <= LARGEST}
    if wide:
        name, value = max(wide.items(), key=lambda pair: pair[1])
        raise ModelError(
            f"the activation {name} reaches {value:.3g}, more than FP16's largest number, {LARGEST:.0f}: leave out the flavor fp16"
        )
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
    del graph.value_info[:]
    return halved


def halve_remainder(quantized: onnx.ModelProto) -> onnx.ModelProto:
    """Return a Q/DQ model (onnx.ModelProto) whose scales and float operators are FP16.

    It has opset FP16_QDQ_OPSET, the first whose QuantizeLinear accepts FP16.
    """
    from onnx import numpy_helper, version_converter

    newer = version_converter.convert_version(quantized, FP16_QDQ_OPSET)
    halved = halve(newer, {})
    scales = {node.input[1] for node in halved.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    wanted = {tensor.name: numpy_helper.to_array(tensor) for tensor in newer.graph.initializer if tensor.name in scales}
    for tensor in halved.graph.initializer:
        if tensor.name in scales:
            tensor.CopyFrom(numpy_helper.from_array(_round_up(wanted[tensor.name]), tensor.name))
    return halved


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
