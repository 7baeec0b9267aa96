"""Weights whose products cannot overflow 16 bits, which is what x86 processors without VNNI add them up in.

There one instruction (VPMADDUBSW) multiplies two 8-bit activations, 0 to 255, by the weights of
two neighbouring inputs and adds the two products in 16 bits; a larger sum is cut off without a
word.  Where two neighbouring weights add up to 128 at most none is larger.  ONNX Runtime and oneDNN
take input channels 2 i and 2 i + 1 of the same tap together.

Halving every weight's range, as the field does (ONNX Runtime's ``reduce_range``, NNCF's
``overflow_fix``), is safe too; here a channel loses only as much of its range as its largest pair asks for.

Knows nothing of activations' ranges, of files, or of accuracy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LIMIT = 128
"""255 x 128 is the largest multiple of 255 in 16 bits with a sign."""
_STEPS = 127


def weight_ranges(graph: Any) -> dict[str, list[dict[str, Any]]]:
    """Return, by the weight's name, what ONNX Runtime's quantizer calls TensorQuantOverrides: a range a channel.

    graph: an onnx.GraphProto of float32.  The weights of layers that multiply a single input by each
    weight, depthwise convolutions, are left out: they are computed in 32 bits.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    ranges = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm") or node.input[1] not in stored:
            continue
        name, weights = node.input[1], numpy_helper.to_array(stored[node.input[1]])
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type == "Conv":
            if is_depthwise(weights.shape, attributes.get("group", 1)):
                continue
            axis, largest = 0, _largest_of_convolution(weights)
        elif weights.ndim == 2:
            axis = 0 if attributes.get("transB") else 1
            largest = _largest(weights if axis == 0 else weights.T)
        else:
            continue
        ranges[name] = [{"axis": axis, "rmin": -limit, "rmax": limit} for limit in largest]
    return ranges


def is_depthwise(shape: tuple[int, ...], group: int) -> bool:
    """Tell whether a convolution's weights, of this shape, have one input channel and one output channel a group."""
    return shape[1] == 1 and shape[0] == group


def has_pairs(weights: np.ndarray) -> bool:
    """Tell whether a convolution's weights come in pairs of input channels; else neighbours are of different taps."""
    return weights.shape[1] % 2 == 0 or weights.shape[2:] == (1, 1)


def _largest_of_convolution(weights: np.ndarray) -> np.ndarray:
    """Return the range of each output channel, float32 [outputs]; weights: [outputs, inputs of a group, height, width]."""
    outputs = len(weights)
    if not has_pairs(weights):
        return np.asarray(2 * np.abs(weights).reshape(outputs, -1).max(1))
    taps = weights.reshape(outputs, weights.shape[1], -1).transpose(0, 2, 1)
    return np.asarray(_largest(taps.reshape(-1, weights.shape[1])).reshape(outputs, -1).max(1))


def _largest(rows: np.ndarray) -> np.ndarray:
    """Return of each row, [rows, inputs], the largest weight or sum of a pair, whichever asks for more."""
    even = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
    sums = even[:, 0::2] + even[:, 1::2]
    return np.asarray(np.maximum(np.abs(even).max(1), np.abs(sums).max(1)))
