"""Confident learning: labels that are likely wrong, and labels that are mistaken for others.

C. Northcutt, L. Jiang, I. Chuang: Confident Learning, Estimating Uncertainty in Dataset Labels (JAIR 2021).  A label's threshold is
the mean probability that images with this label have for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST = 0.1
"""A label is likely wrong if its probability is below this part of the label's threshold; see benchmarks/NOTES.md."""


@dataclass(frozen=True)
class LabelJudgment:
    """The findings about labels that follow from probabilities."""

    thresholds: np.ndarray
    """float [classes]; NaN for a label that is not checked."""
    joint: np.ndarray
    """The confident joint: int [classes, classes], number of images by given and likely label."""
    suggested: np.ndarray
    """int [images], each image's likeliest label."""
    quality: np.ndarray
    """float [images]: probability of the given label relative to its threshold; NaN if it is not checked."""

    @property
    def wrong(self) -> np.ndarray:
        """Indices of the images whose label is likely wrong, the most suspicious first."""
        found = np.flatnonzero(self.quality < LEAST)
        return found[np.argsort(self.quality[found], kind="stable")]


def judge(probabilities: np.ndarray, labels: np.ndarray, known: np.ndarray, judged: np.ndarray) -> LabelJudgment:
    """Compare labels with out-of-sample probabilities, float [images, classes].

    labels: int [images]; known: bool [images], which images decide thresholds and joint (not those of the test split); judged:
    bool [images].
    """
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels].astype(float)
    used = known & judged
    totals = np.bincount(labels[used], minlength=classes)
    sums = np.bincount(labels[used], own[used], minlength=classes)
    thresholds = np.divide(sums, totals, out=np.full(classes, np.nan), where=totals > 0)
    above = probabilities >= np.where(np.isnan(thresholds), np.inf, thresholds)
    counted = used & above.any(1)
    likely = np.where(above, probabilities, -1).argmax(1)
    joint = np.zeros((classes, classes), int)
    np.add.at(joint, (labels[counted], likely[counted]), 1)
    suggested = probabilities.argmax(1)
    quality = np.where(judged & (totals[labels] > 0), own / np.maximum(thresholds[labels], 1e-9), np.nan)
    # Its own label is the likeliest one: no other can be suggested.
    quality = np.where(suggested == labels, np.maximum(quality, LEAST), quality)
    return LabelJudgment(thresholds, joint, suggested, quality)
