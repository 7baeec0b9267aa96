"""Histograms of activations over any number of images, in memory of a fixed size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

BINS = 2048
"""On each side of 0."""
SAMPLE = 4096
"""Values of one tensor that are counted for each image; the smallest and the largest are of all values."""


class Histogram:
    """Counts of one activation's values, its smallest and its largest value.

    counts      int64 [2 * BINS]; bin i holds values from (i - BINS) * width to (i - BINS + 1) * width
    exponent    width = 2**exponent / BINS: a power of two, so that two bins become one exactly when larger values come
    """

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.exponent = -40
        self.counts = np.zeros(2 * BINS, np.int64)

    @classmethod
    def restore(cls, low: float, high: float, exponent: int, counts: np.ndarray) -> Histogram:
        """Return a histogram of these values; ValueError if they cannot be a histogram's."""
        if counts.shape != (2 * BINS,) or counts.dtype.kind != "i" or counts.min() < 0:
            raise ValueError("counts of another shape or type")
        one = cls()
        one.low, one.high, one.exponent, one.counts = float(low), float(high), int(exponent), counts
        return one

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return float(max(abs(self.low), abs(self.high)))

    @property
    def width(self) -> float:
        """A bin's width."""
        return float(2.0**self.exponent / BINS)

    @property
    def centers(self) -> np.ndarray:
        """The value in the middle of each bin, float64 [2 * BINS]."""
        return (np.arange(2 * BINS) - BINS + 0.5) * self.width

    def add(self, values: np.ndarray, turn: int) -> None:
        """Count a tensor's values, float32 of any shape; each ``turn`` samples other elements of it.

        Raises ValueError, which says what was found, if a value is infinite or not a number.
        """
        values = values.ravel()
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(high - low):
            raise ValueError(f"values from {low} to {high} (finite numbers were expected)")
        self.low, self.high = min(self.low, low), max(self.high, high)
        while 2.0**self.exponent <= self.largest:
            self._widen()
        # An odd stride, so that a map's even width does not repeat in the sample.
        stride = max(1, len(values) // SAMPLE) | 1
        sample = values[turn % stride :: stride].astype(np.float64)
        bins = np.floor(sample / self.width).astype(np.int64) + BINS
        self.counts += np.bincount(bins, minlength=2 * BINS)

    def _widen(self) -> None:
        if self.counts.any():
            merged = self.counts.reshape(BINS, 2).sum(1)
            self.counts = np.concatenate([np.zeros(BINS // 2, np.int64), merged, np.zeros(BINS // 2, np.int64)])
        self.exponent += 1


def distinct(histograms: Mapping[str, Histogram]) -> list[tuple[list[str], Histogram]]:
    """Return each histogram once, with its tensors' names: a layer and its activation function share one."""
    groups: dict[int, tuple[list[str], Histogram]] = {}
    for name, one in histograms.items():
        groups.setdefault(id(one), ([], one))[0].append(name)
    return list(groups.values())
