"""Figures of a model's logits: intervals, calibration and precision-recall curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NORMAL_95 = 1.959964
"""The 97.5 % quantile of the standard normal distribution."""
BINS = 15
"""Bins of the expected calibration error, as in Guo et al., "On Calibration of Modern Neural Networks", 2017."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies in one range: a bar of a reliability diagram."""

    low: float
    high: float
    images: int
    confidence: float | None
    """Mean confidence, None without images."""
    accuracy: float | None


def wilson_interval(hits: int, images: int) -> Interval:
    """Return Wilson's 95 % confidence interval of a share."""
    share, squared = hits / images, _NORMAL_95**2
    center = (share + squared / (2 * images)) / (1 + squared / images)
    width = _NORMAL_95 / (1 + squared / images) * np.sqrt(share * (1 - share) / images + squared / (4 * images**2))
    return max(0.0, float(center - width)), min(1.0, float(center + width))


def reliability_bins(probabilities: np.ndarray, truth: np.ndarray) -> list[Bin]:
    """Return the images by confidence, in BINS bins of equal width from 0 to 1, empty ones included."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, weights, BINS) for weights in (confidence, right)]
    return [
        Bin(
            number / BINS,
            (number + 1) / BINS,
            int(count),
            *(float(total[number] / count) if count else None for total in sums),
        )
        for number, count in enumerate(counts)
    ]


def expected_calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean gap between confidence and accuracy, weighted by the bins' images."""
    gaps = [
        found.images * abs(found.confidence - found.accuracy)
        for found in reliability_bins(probabilities, truth)
        if found.confidence is not None and found.accuracy is not None
    ]
    return float(sum(gaps) / len(truth))
