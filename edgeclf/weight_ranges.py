"""The range of each output channel's weights, which INT8 divides into 127 steps on either side of 0.

It is that of the largest weight, but on x86 processors without VNNI, which add products up in 16 bits.
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

STEPS = 127
LIMIT = 128
"""Of two neighbours' steps: 255 x 128 is the largest multiple of 255 in 16 bits with a sign."""


def weight_scales(graph: Any, sums_of_16_bits: bool) -> dict[str, list[dict[str, Any]]]:
    """Return the steps of the weights of every layer as ONNX Runtime's quantizer takes them (TensorQuantOverrides).

    graph: an onnx.GraphProto of float32.  It finds the same steps by itself, but takes half of its time for them.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    summed = names_in_pairs(graph) if sums_of_16_bits else set()
    scales = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm") or node.input[1] not in stored:
            continue
        weights = numpy_helper.to_array(stored[node.input[1]])
        axis, rows = _rows(node, weights)
        if rows is None:
            continue
        largest = _largest_sums(weights, rows) if node.input[1] in summed else np.abs(rows).max((1, 2))
        steps = (largest.astype(np.float64) / STEPS).astype(np.float32)
        # Of a channel that is all 0, as the quantizer has it.
        steps[steps < np.finfo(np.float32).tiny] = 1
        scales[node.input[1]] = [{"axis": axis, "scale": step, "zero_point": np.int8(0)} for step in steps]
    return scales


def names_in_pairs(graph: Any) -> set[str]:
    """Return the names of the weights whose products are added up two by two.

    Those of depthwise convolutions are not, which have a single input: they are computed in 32 bits.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    names = set()
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") and node.input[1] in shapes:
            outputs, inputs = shapes[node.input[1]][:2]
            groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
            if node.op_type != "Conv" or inputs > 1 or outputs != groups:
                names.add(node.input[1])
    return names


def has_pairs(weights: np.ndarray) -> bool:
    """Tell whether a convolution's weights come in pairs of input channels; else neighbours are of different taps."""
    return weights.shape[1] % 2 == 0 or weights.shape[2:] == (1, 1)


def _rows(node: Any, weights: np.ndarray) -> tuple[int, np.ndarray | None]:
    """Return the axis of the output channels, and the weights as [outputs, taps, inputs]; None for other shapes."""
    if node.op_type == "Conv":
        return 0, weights.reshape(*weights.shape[:2], -1).transpose(0, 2, 1)
    if weights.ndim != 2:
        return 0, None
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return (0, weights[:, None]) if transposed else (1, weights.T[:, None])


def _largest_sums(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return of each output the largest weight or sum of a pair, whichever asks for more: [outputs]."""
    largest = np.abs(rows).max((1, 2))
    if weights.ndim > 2 and not has_pairs(weights):
        return np.asarray(2 * largest)
    even = np.pad(rows, ((0, 0), (0, 0), (0, rows.shape[2] % 2)))
    return np.asarray(np.maximum(largest, np.abs(even[:, :, 0::2] + even[:, :, 1::2]).max((1, 2))))
