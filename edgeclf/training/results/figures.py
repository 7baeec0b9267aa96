"""The figures of a report: accuracy, labels, confusions, calibration, and one sentence that sums them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeclf_runtime.classify.decision import softmax

from ...data.findings import counted
from .metrics import Bin, Interval, expected_calibration_error, reliability_bins, wilson_interval

FEW = 20
"""With fewer images, a label's recall has an interval of 30 points or more."""
_NAMED = 3
_MOST_CURVES = 30
_CURVE_POINTS = 80


@dataclass(frozen=True)
class LabelFigures:
    """One label's results; what cannot be said without images, or without predictions, is None."""

    label: str
    images: int
    predicted: int
    """Images that were given this label."""
    precision: float | None
    recall: float | None
    f1: float | None
    interval: Interval | None
    """95 % interval of the recall."""


@dataclass(frozen=True)
class PrecisionRecall:
    """One label's precision-recall curve, by rising recall."""

    label: str
    average_precision: float
    points: tuple[tuple[float, float], ...]
    """Recall and precision."""


@dataclass(frozen=True)
class Figures:
    """A model's figures on labeled images."""

    labels: tuple[LabelFigures, ...]
    images: int
    accuracy: float
    interval: Interval
    balanced_accuracy: float
    """Mean recall of the labels with images; so is macro F1 a mean over them."""
    macro_f1: float
    confusion: np.ndarray
    """int [labels, labels]; rows true, columns predicted."""
    bins: tuple[Bin, ...]
    calibration_error: float | None
    """None if a logit is not finite."""
    curves: tuple[PrecisionRecall, ...]
    """Of the labels with images, the worst first; of many labels only those with the least F1."""

    def confusions(self) -> list[tuple[int, int, int]]:
        """Return true label, predicted label and number of images of each confusion, the most frequent first."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        rows, columns = np.nonzero(wrong)
        order = np.argsort(-wrong[rows, columns], kind="stable")
        return [(int(rows[i]), int(columns[i]), int(wrong[rows[i], columns[i]])) for i in order]


def figures_of(labels: Sequence[str], truth: np.ndarray, logits: np.ndarray, temperature: float = 1.0) -> Figures:
    """Return the figures of logits, float [images, labels], of which each image's true label is known, int [images]."""
    predicted = logits.argmax(1)
    count = len(labels)
    confusion = np.bincount(truth * count + predicted, minlength=count * count).reshape(count, count)
    hits, images, given = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    rows = tuple(
        _label(label, int(hit), int(seen), int(answered))
        for label, hit, seen, answered in zip(labels, hits, images, given, strict=True)
    )
    finite = bool(np.isfinite(logits).all())
    probabilities = softmax(logits / temperature) if finite else np.zeros_like(logits)
    return Figures(
        labels=rows,
        images=len(truth),
        accuracy=float(hits.sum() / len(truth)),
        interval=wilson_interval(int(hits.sum()), len(truth)),
        balanced_accuracy=float(np.mean([row.recall for row in rows if row.recall is not None])),
        macro_f1=float(np.mean([row.f1 or 0.0 for row in rows if row.images])),
        confusion=confusion,
        bins=tuple(reliability_bins(probabilities, truth)) if finite else (),
        calibration_error=expected_calibration_error(probabilities, truth) if finite else None,
        curves=_curves(rows, truth, probabilities) if finite else (),
    )


def _label(label: str, hits: int, images: int, predicted: int) -> LabelFigures:
    precision = hits / predicted if predicted else None
    recall = hits / images if images else None
    f1 = 2 * hits / (images + predicted) if images else None
    return LabelFigures(
        label, images, predicted, precision, recall, f1, wilson_interval(hits, images) if images else None
    )


def _curves(labels: Sequence[LabelFigures], truth: np.ndarray, scores: np.ndarray) -> tuple[PrecisionRecall, ...]:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    # Without other images, precision is always 1.
    drawn = [index for index, row in enumerate(labels) if 0 < row.images < len(truth)]
    found = []
    for index in sorted(drawn, key=lambda index: labels[index].f1 or 0.0)[:_MOST_CURVES]:
        own = truth == index
        precision, recall, _ = precision_recall_curve(own, scores[:, index])
        kept = np.unique(np.linspace(0, len(recall) - 1, _CURVE_POINTS).astype(int))
        points = tuple((float(recall[i]), float(precision[i])) for i in kept[::-1])
        average = float(average_precision_score(own, scores[:, index]))
        found.append(PrecisionRecall(labels[index].label, average, points))
    return tuple(sorted(found, key=lambda curve: curve.average_precision))


def verdict(found: Figures) -> str:
    """Return what the figures say, in one sentence."""
    low, high = found.interval
    text = f"{found.accuracy:.1%} of {counted(found.images, 'image')} are right (95% interval {low:.1%} to {high:.1%})"
    enough = [row for row in found.labels if row.images >= FEW and row.recall is not None]
    few = [row.label for row in found.labels if row.images < FEW]
    if len(enough) > 1 and found.accuracy < 1:
        worst = min(enough, key=lambda row: row.recall or 0.0)
        text += f"; the worst label is {worst.label}, with {worst.recall:.1%} of its {worst.images} images right"
    if few:
        which = "every label has" if len(few) == len(found.labels) else _few(few)
        text += f"; {which} fewer than {FEW} images, too few to name the worst"
    return f"{text}."


def _few(labels: Sequence[str]) -> str:
    names = ", ".join(labels[:_NAMED]) + (f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else "")
    return f"1 label ({names}) has" if len(labels) == 1 else f"{len(labels)} labels ({names}) have"
