"""Compares a model file with FP32 on the same images: accuracy drop, agreement, divergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from edgeclf_runtime.classify.golden import divergence

from ..training.results.metrics import NORMAL_95


@dataclass(frozen=True)
class Comparison:
    """The comparison of a file with FP32 on the same images."""

    accuracy: float
    accuracy_fp32: float
    drop: float
    """FP32's accuracy minus the file's."""
    drop_interval: tuple[float, float]
    """95 % confidence interval of the drop; the images are paired."""
    p_value: float
    """Exact McNemar test: probability of a difference at least as large if both were equally accurate."""
    drop_by_label: dict[str, float]
    """Drop of recall; labels without images are left out."""
    agreement: float
    """Share of images to which both give the same label."""
    divergence: float
    """Mean Kullback-Leibler divergence of the file's probabilities from FP32's, in nats; 0 if all are equal.

    Less noisy than agreement, which a few images near the decision boundary determine."""
    confidence_shift: float
    """Mean of the file's confidence minus FP32's."""
    confidence_change_p95: float
    """The confidence of 95 % of the images changes by at most this much."""


def compare(labels: Sequence[str], truth: np.ndarray, reference: np.ndarray, found: np.ndarray) -> Comparison:
    """Compare a file's logits with FP32's.

    truth: int [images], indices in ``labels``.  reference, found: float32 [images, labels], FP32's and the file's.
    """
    right_fp32, right = reference.argmax(1) == truth, found.argmax(1) == truth
    lost, won = int((right_fp32 & ~right).sum()), int((right & ~right_fp32).sum())
    change = _confidence(found) - _confidence(reference)
    return Comparison(
        accuracy=float(right.mean()),
        accuracy_fp32=float(right_fp32.mean()),
        drop=(lost - won) / len(truth),
        drop_interval=paired_interval(lost, won, len(truth)),
        p_value=mcnemar(lost, won),
        drop_by_label=_drop_by_label(labels, truth, right_fp32, right),
        agreement=float((found.argmax(1) == reference.argmax(1)).mean()),
        divergence=divergence(reference, found),
        confidence_shift=float(change.mean()),
        confidence_change_p95=float(np.quantile(np.abs(change), 0.95)),
    )


def _drop_by_label(
    labels: Sequence[str], truth: np.ndarray, right_fp32: np.ndarray, right: np.ndarray
) -> dict[str, float]:
    images, before, after = (np.bincount(truth, weights, len(labels)) for weights in (None, right_fp32, right))
    seen = np.flatnonzero(images)
    drops = before[seen] / images[seen] - after[seen] / images[seen]
    return {labels[index]: drop for index, drop in zip(seen.tolist(), drops.tolist(), strict=True)}


def mcnemar(lost: int, won: int) -> float:
    """Return the exact two-sided p-value of McNemar's test: the binomial distribution of the images that differ."""
    differ = lost + won
    return min(1.0, 2 * sum(comb(differ, k) for k in range(max(lost, won), differ + 1)) / 2**differ)


def paired_interval(lost: int, won: int, images: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of (lost - won) / images, the images being paired.

    Wald's interval after half an observation was added to each cell of the table, which keeps its
    coverage where few images differ, or none (Agresti and Min, "Simple improved confidence
    intervals for comparing matched proportions", Statistics in Medicine 24, 2005).
    """
    total, lost_more, won_more = images + 2, lost + 0.5, won + 0.5
    drop = (lost_more - won_more) / total
    width = NORMAL_95 * float(np.sqrt(lost_more + won_more - (lost_more - won_more) ** 2 / total)) / total
    return drop - width, drop + width


def _confidence(logits: np.ndarray) -> np.ndarray:
    """Return the softmax probability of the likeliest label, [images]."""
    return np.asarray(1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1))
