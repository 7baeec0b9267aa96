"""Figures of merit of a model's logits: accuracy and its interval, ranking, and how far its confidences can be trusted.

What a set of images cannot say is None: the ROC AUC of a single label, the calibration of logits that are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

NORMAL_95 = 1.959964
"""The 97.5 % quantile of the standard normal distribution."""
BINS = 15
"""Bins of the expected calibration error, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"."""
TOP_K = 5
"""Top-k accuracy is that of min(TOP_K, labels - 1) labels, if there are more than TOP_K labels."""

Interval = tuple[float, float]
"""Lower and upper end of a 95 % confidence interval, 0 to 1."""


class GroupFigures(TypedDict):
    """A group of images: their number, accuracy, and Wilson's interval."""

    images: int
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class Share:
    """A share of images."""

    share: float
    interval: Interval
    """95 % interval, Wilson's."""
    images: int
    """Images of which it is a share."""


@dataclass(frozen=True)
class Metrics:
    """A model's figures on one set of images.  Means over labels leave out labels without images."""

    accuracy: float
    accuracy_interval: Interval
    """Wilson's; it takes the images as independent, so images of few groups deserve a wider one."""
    baseline_accuracy: float
    """Accuracy of always answering the most frequent label of these images."""
    balanced_accuracy: float
    """Mean of the labels' recalls, also called macro recall."""
    macro_precision: float
    macro_f1: float
    top_k: int | None
    top_k_accuracy: float | None
    """Share of images whose label is among the ``top_k`` likeliest; None with few labels."""
    roc_auc: float | None
    """Area under the ROC curve, each label against the others, averaged; of two labels it is that of either."""
    average_precision: float | None
    """Area under the precision-recall curve, each label against the others, averaged."""
    temperature: float
    """Logits are divided by it before the softmax; the following figures, but for the raw one, are with it."""
    calibration_error: float | None
    """Expected calibration error, 0 to 1: mean gap between confidence and accuracy in BINS bins of equal width."""
    raw_calibration_error: float | None
    """The same with temperature 1."""
    negative_log_likelihood: float | None
    """Mean of -log(probability of the true label), in nats."""
    brier_score: float | None
    """Mean over the images of the squared error of the probabilities, summed over the labels: 0 to 2 (Brier 1950)."""
    recall_intervals: tuple[Interval | None, ...]
    """Wilson's interval of each label's recall, in the order of the labels; None for a label without images."""


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies in one range: a bar of a reliability diagram."""

    low: float
    high: float
    images: int
    confidence: float | None
    """Mean confidence, None without images."""
    accuracy: float | None


def measure_metrics(logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> Metrics:
    """Measure logits, float [images, labels], against the true labels' indices, int [images]; at least one image."""
    from sklearn.metrics import precision_recall_fscore_support

    labels, predicted = logits.shape[1], logits.argmax(1)
    precision, recall, f1, images = precision_recall_fscore_support(
        truth, predicted, labels=range(labels), zero_division=0
    )
    seen = images > 0
    hits = np.bincount(truth[predicted == truth], minlength=labels)
    ranked = min(TOP_K, labels - 1) if labels > TOP_K else None
    log_p = log_probabilities(logits, temperature)
    usable = bool(np.isfinite(log_p).all())
    return Metrics(
        accuracy=float((predicted == truth).mean()),
        accuracy_interval=wilson_interval(int(hits.sum()), len(truth)),
        baseline_accuracy=float(images.max() / len(truth)),
        balanced_accuracy=float(recall[seen].mean()),
        macro_precision=float(precision[seen].mean()),
        macro_f1=float(f1[seen].mean()),
        top_k=ranked,
        top_k_accuracy=top_k_accuracy(logits, truth, ranked) if ranked else None,
        roc_auc=roc_auc(log_p, truth) if usable else None,
        average_precision=average_precision(log_p, truth) if usable else None,
        temperature=float(temperature),
        calibration_error=expected_calibration_error(np.exp(log_p), truth) if usable else None,
        raw_calibration_error=expected_calibration_error(np.exp(log_probabilities(logits)), truth) if usable else None,
        negative_log_likelihood=float(-log_p[np.arange(len(truth)), truth].mean()) if usable else None,
        brier_score=brier_score(np.exp(log_p), truth) if usable else None,
        recall_intervals=tuple(
            wilson_interval(int(right), int(count)) if count else None
            for right, count in zip(hits, images, strict=True)
        ),
    )


def wilson_interval(hits: int, images: int) -> Interval:
    """Return the 95 % confidence interval of a share, which stays within 0 to 1 and holds for few images too.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22; recommended for few
    observations by Brown, Cai and DasGupta 2001, "Interval estimation for a binomial proportion", Statistical Science 16.
    Raises ValueError without images.
    """
    if images < 1:
        raise ValueError("a share of no images has no interval")
    share, squared = hits / images, NORMAL_95**2
    center = (share + squared / (2 * images)) / (1 + squared / images)
    width = NORMAL_95 / (1 + squared / images) * np.sqrt(share * (1 - share) / images + squared / (4 * images**2))
    # Exactly 0 and 1 at the ends, whatever the rounding.
    return (
        0.0 if hits == 0 else max(0.0, float(center - width)),
        1.0 if hits == images else min(1.0, float(center + width)),
    )


def share_of(hits: np.ndarray) -> Share | None:
    """Return the share of images that are True, bool [images]; None without images."""
    if not len(hits):
        return None
    return Share(float(hits.mean()), wilson_interval(int(hits.sum()), len(hits)), len(hits))


def log_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the logarithm of the softmax, float64 [images, labels]; probabilities near 1 keep their order.

    Logits that are not finite give values that are not.
    """
    scaled, rows = logits.astype(np.float64) / temperature, np.arange(len(logits))
    with np.errstate(invalid="ignore"):
        scaled -= scaled.max(1, keepdims=True)
        others = np.exp(scaled)
        others[rows, scaled.argmax(1)] = 0
        found: np.ndarray = scaled - np.log1p(others.sum(1, keepdims=True))
    return found


def top_k_accuracy(logits: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Return the share of images whose true label is among the k likeliest; of equal logits, the first labels win."""
    likeliest = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((likeliest == truth[:, None]).any(1).mean())


def roc_auc(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the mean area under the ROC curves of the labels, one against the others; None if all images have one label.

    scores: float [images, labels]; only their order within a label counts.
    """
    from sklearn.metrics import roc_auc_score

    present = np.unique(truth)
    if len(present) < 2:
        return None
    return float(np.mean([roc_auc_score(truth == label, scores[:, label]) for label in present]))


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the mean area under the precision-recall curves of the labels; None if all images have one label."""
    from sklearn.metrics import average_precision_score

    present = np.unique(truth)
    if len(present) < 2:
        return None
    return float(np.mean([average_precision_score(truth == label, scores[:, label]) for label in present]))


def expected_calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the expected calibration error of probabilities, float [images, labels]: see Metrics."""
    gaps = [
        found.images * abs(found.confidence - found.accuracy)
        for found in reliability_bins(probabilities, truth)
        if found.confidence is not None and found.accuracy is not None
    ]
    return float(sum(gaps) / len(truth))


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


def brier_score(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the Brier score: see Metrics."""
    errors = probabilities.copy()
    errors[np.arange(len(truth)), truth] -= 1
    return float((errors**2).sum(1).mean())


def group_accuracies(right: np.ndarray, groups: Sequence[str]) -> dict[str, GroupFigures]:
    """Return each group's images, accuracy and interval (Wilson's), the least accurate first.

    right: bool [images].  groups: each image's, "" for none; such images are left out.
    """
    found: dict[str, list[bool]] = {}
    for hit, group in zip(right.tolist(), groups, strict=True):
        if group:
            found.setdefault(group, []).append(hit)
    counts = sorted(((sum(hits) / len(hits), -len(hits), group) for group, hits in found.items()))
    return {
        group: {
            "images": -images,
            "accuracy": accuracy,
            "interval": wilson_interval(sum(found[group]), -images),
        }
        for accuracy, images, group in counts
    }
