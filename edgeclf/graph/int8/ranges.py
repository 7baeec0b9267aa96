"""Chooses the ranges that INT8 covers: of activations, from their histograms, and of weights, by output channel.

A narrow range of an activation has fine steps but clips large values.  The methods weigh the two differently, and none is
best for every model.

Weights have one range for each output channel, which INT8 divides into 127 steps on either side of 0.  Usually the
largest weight sets it.  x86 processors without VNNI need more room: one instruction
(VPMADDUBSW) multiplies two 8-bit activations, 0 to 255, by the weights of two neighboring inputs
and adds the products in 16 bits, with saturation.  The sum fits if the two weights add up to 128 or
less.  ONNX Runtime and oneDNN pair input channels 2 i and 2 i + 1 of the same tap.

Halving every range (ONNX Runtime's ``reduce_range``, NNCF's ``overflow_fix``) is safe too; here a
channel gives up only as much of its range as its largest pair requires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from .histograms import BINS, Histogram, distinct

if TYPE_CHECKING:
    import onnx

PERCENTILE = 0.9999
"""Share of the values inside the range of "percentile"."""
_LEVELS = 128  # magnitudes of INT8
_CANDIDATES = 100
_STEPS = 255
WEIGHT_STEPS = 127
PAIR_LIMIT = 128
"""For the sum of two neighbors' steps: 255 x 128 is the largest multiple of 255 in 16 bits with a sign."""


Ranges = dict[str, tuple[float, float]]
"""Smallest and largest value of each activation, by the tensor's name."""


def minmax(histogram: Histogram) -> tuple[float, float]:
    """All values: nothing is clipped."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram) -> tuple[float, float]:
    """PERCENTILE of the values; equal shares are clipped at both ends."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    edges = (np.arange(2 * BINS + 1) - BINS) * histogram.width
    tail = (1 - PERCENTILE) / 2
    return _within(histogram, edges[np.searchsorted(share, tail)], edges[np.searchsorted(share, 1 - tail) + 1])


def entropy(histogram: Histogram) -> tuple[float, float]:
    """The magnitude limit at which 128 levels preserve the distribution best, by KL divergence.

    As TensorRT's entropy calibration: Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """
    magnitudes = (histogram.counts[BINS:] + histogram.counts[BINS - 1 :: -1]).astype(np.float64)
    top = int(np.flatnonzero(magnitudes)[-1]) + 1 if magnitudes.any() else BINS
    # Often half of the values are exactly 0, which every range represents; they would hide the rest.
    magnitudes[0] = 0
    limits = np.unique(np.linspace(min(_LEVELS, top), top, _CANDIDATES).astype(int))
    best = limits[int(np.argmin([_divergence(magnitudes, limit) for limit in limits]))]
    limit = best * histogram.width
    return _within(histogram, -limit, limit)


def mse(histogram: Histogram) -> tuple[float, float]:
    """The magnitude limit with the smallest mean squared error of rounding inside it and clipping outside."""
    counts, centers = histogram.counts.astype(np.float64), histogram.centers
    best = histogram.low, histogram.high
    smallest = np.inf
    for limit in histogram.largest * np.linspace(0.1, 1, _CANDIDATES):
        low, high = _within(histogram, -limit, limit)
        outside = np.maximum(centers - high, 0) + np.maximum(low - centers, 0)
        # Values lie anywhere between two steps: the variance of a uniform distribution.
        rounding = (max(high, 0) - min(low, 0)) ** 2 / _STEPS**2 / 12 * counts[outside == 0].sum()
        error = rounding + (outside**2 * counts).sum()
        if error < smallest:
            smallest, best = error, (low, high)
    return best


METHODS: dict[str, Callable[[Histogram], tuple[float, float]]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


def ranges_of(histograms: Mapping[str, Histogram], method: str) -> Ranges:
    """Return each activation's range by one of METHODS."""
    found = [(names, METHODS[method](one)) for names, one in distinct(histograms)]
    return {name: bounds for names, bounds in found for name in names}


def _divergence(magnitudes: np.ndarray, limit: int) -> float:
    """Return the KL divergence of the first ``limit`` bins, with all above added to the last, from their 128 levels."""
    inside = magnitudes[:limit]
    reference = inside.copy()
    reference[-1] += magnitudes[limit:].sum()
    level = np.arange(limit) * _LEVELS // limit
    filled = inside > 0
    mean = np.bincount(level, inside, _LEVELS) / np.maximum(np.bincount(level, filled, _LEVELS), 1)
    found = np.where(filled, mean[level], 0)
    if not reference.any() or not found.any():
        return np.inf
    p, q = reference / reference.sum(), found / found.sum()
    both = (p > 0) & (q > 0)
    missed = p[(p > 0) & (q == 0)].sum()
    # A bin without a level would be infinitely far; a single image's outliers must not decide.
    return float((p[both] * np.log(p[both] / q[both])).sum() + missed * np.log(1e6))


def _within(histogram: Histogram, low: float, high: float) -> tuple[float, float]:
    return max(float(low), histogram.low), min(float(high), histogram.high)


def weight_scales(graph: onnx.GraphProto, sums_of_16_bits: bool) -> dict[str, list[dict[str, object]]]:
    """Return the steps of the weights of every layer as ONNX Runtime's quantizer takes them (TensorQuantOverrides).

    graph: an onnx.GraphProto of float32.  The quantizer would compute the same steps, but would spend half of its time on that.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    summed = names_in_pairs(graph) if sums_of_16_bits else set()
    scales = {}
    for node in _layers(graph):
        weights = numpy_helper.to_array(stored[node.input[1]])
        axis, rows = _rows(node, weights)
        if rows is None:
            continue
        largest = _largest_sums(weights, rows) if node.input[1] in summed else np.abs(rows).max((1, 2))
        steps = (largest.astype(np.float64) / WEIGHT_STEPS).astype(np.float32)
        # A channel of zeros gets the quantizer's own step.
        steps[steps < np.finfo(np.float32).tiny] = 1
        scales[node.input[1]] = [{"axis": axis, "scale": step, "zero_point": np.int8(0)} for step in steps]
    return scales


def names_in_pairs(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the weights whose products are added in pairs.

    Depthwise convolutions have a single input and are computed in 32 bits.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    names = set()
    for node in _layers(graph):
        outputs, inputs = shapes[node.input[1]][:2]
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if node.op_type != "Conv" or inputs > 1 or outputs != groups:
            names.add(node.input[1])
    return names


def _layers(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that multiply their input by stored weights."""
    stored = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") and node.input[1] in stored:
            yield node


def has_pairs(weights: np.ndarray) -> bool:
    """Return whether a convolution's weights come in pairs of input channels; otherwise neighbors belong to different taps."""
    return weights.shape[1] % 2 == 0 or weights.shape[2:] == (1, 1)


def _rows(node: onnx.NodeProto, weights: np.ndarray) -> tuple[int, np.ndarray | None]:
    """Return the axis of the output channels, and the weights as [outputs, taps, inputs]; None for other shapes."""
    if node.op_type == "Conv":
        return 0, weights.reshape(*weights.shape[:2], -1).transpose(0, 2, 1)
    if weights.ndim != 2:
        return 0, None
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return (0, weights[:, None]) if transposed else (1, weights.T[:, None])


def _largest_sums(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return each output's largest weight or pair sum, whichever is larger: [outputs]."""
    largest = np.abs(rows).max((1, 2))
    if weights.ndim > 2 and not has_pairs(weights):
        return np.asarray(2 * largest)
    even = np.pad(rows, ((0, 0), (0, 0), (0, rows.shape[2] % 2)))
    return np.asarray(np.maximum(largest, np.abs(even[:, :, 0::2] + even[:, :, 1::2]).max((1, 2))))
