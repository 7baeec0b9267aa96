"""Which part of an activation's values gets the 256 steps of INT8, and what is cut off.

A narrow range has fine steps and cuts large values off; the methods weigh the two differently, and none is best for
every model.  All of them work on the same histograms.  Knows nothing of models or of accuracy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .histograms import BINS, Histogram

PERCENTILE = 0.9999
"""Share of the values inside the range of "percentile"."""
_LEVELS = 128  # magnitudes that INT8 tells apart
_CANDIDATES = 100
_STEPS = 255


def minmax(histogram: Histogram) -> tuple[float, float]:
    """Everything that was seen: nothing is cut off."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram) -> tuple[float, float]:
    """PERCENTILE of the values, as many being cut off at either end."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    edges = (np.arange(2 * BINS + 1) - BINS) * histogram.width
    tail = (1 - PERCENTILE) / 2
    return _within(histogram, edges[np.searchsorted(share, tail)], edges[np.searchsorted(share, 1 - tail) + 1])


def entropy(histogram: Histogram) -> tuple[float, float]:
    """The limit of the magnitudes after which 128 levels tell most of their distribution, by its KL divergence.

    As TensorRT's entropy calibration: Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """
    magnitudes = (histogram.counts[BINS:] + histogram.counts[BINS - 1 :: -1]).astype(np.float64)
    top = int(np.flatnonzero(magnitudes)[-1]) + 1 if magnitudes.any() else BINS
    # Half of the values are often exactly 0, which every range has a level for; they would hide the rest.
    magnitudes[0] = 0
    limits = np.unique(np.linspace(min(_LEVELS, top), top, _CANDIDATES).astype(int))
    best = limits[int(np.argmin([_divergence(magnitudes, limit) for limit in limits]))]
    limit = best * histogram.width
    return _within(histogram, -limit, limit)


def mse(histogram: Histogram) -> tuple[float, float]:
    """The limit of the magnitudes with the smallest mean squared error of rounding inside and of cutting off outside."""
    counts, centres = histogram.counts.astype(np.float64), histogram.centres
    best = histogram.low, histogram.high
    smallest = np.inf
    for limit in histogram.largest * np.linspace(0.1, 1, _CANDIDATES):
        low, high = _within(histogram, -limit, limit)
        outside = np.maximum(centres - high, 0) + np.maximum(low - centres, 0)
        # A value is anywhere between two steps: the variance of a uniform distribution.
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


def _divergence(magnitudes: np.ndarray, limit: int) -> float:
    """Return the KL divergence of the first ``limit`` bins, what lies above added to the last, from their 128 levels."""
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
    # A bin that no level stands for would be infinitely far; one image's outliers must not decide alone.
    return float((p[both] * np.log(p[both] / q[both])).sum() + missed * np.log(1e6))


def _within(histogram: Histogram, low: float, high: float) -> tuple[float, float]:
    return max(float(low), histogram.low), min(float(high), histogram.high)
