"""Measures what a model rejects of labeled images, and whether its label sets keep their promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeclf_runtime.classify.label_sets import label_sets
from edgeclf_runtime.classify.rejection import CONFIDENCE, DISTANCE

from ...training.results.metrics import Share, share_of
from .answers import Answers


@dataclass(frozen=True)
class KeptImages:
    """The images that keep a label at a model's thresholds, and those that become unknown."""

    coverage: Share
    """The images that keep a label."""
    accuracy: Share | None
    """Those of them whose label is right; None if no image keeps one."""
    rejected: dict[str, int]
    """Unknown images by reason, "distance" or "confidence": an image for which both hold counts for the distance."""
    precision: dict[str, Share | None]
    """By label that has a threshold of its own: the images that keep it and are of it; None if none keeps it."""


@dataclass(frozen=True)
class MeasuredSets:
    """The label sets of labeled images."""

    right: Share
    """Sets that have the right label."""
    mean_size: float
    """Mean number of labels of a set."""
    empty: Share
    """Sets without a label."""


def measure_kept(answers: Answers, truth: np.ndarray, labels: Sequence[str]) -> KeptImages | None:
    """Measure what is rejected of images with these true labels, int [images], at least one.

    None if the model rejects nothing, or if a logit is not finite.
    """
    if not answers.finite or not (answers.rejects_confidences or answers.rejects_distances):
        return None
    predicted, kept = answers.confidences.argmax(1), answers.kept(CONFIDENCE, DISTANCE)
    right = predicted == truth
    return KeptImages(
        coverage=_share(kept),
        accuracy=share_of(right[kept]),
        rejected=dict(sorted(Counter(reason for reason in answers.reasons if reason).items())),
        precision={labels[index]: share_of(right[kept & (predicted == index)]) for index in answers.rejection.by_label},
    )


def measure_sets(answers: Answers, truth: np.ndarray) -> MeasuredSets | None:
    """Measure the label sets of images with these true labels; None if the model gives none, or if a logit is not finite."""
    if answers.rejection.in_set is None or not answers.finite:
        return None
    members = label_sets(answers.confidences, answers.rejection.in_set)
    sizes = members.sum(1)
    return MeasuredSets(_share(members[np.arange(len(truth)), truth]), float(sizes.mean()), _share(sizes == 0))


def _share(hits: np.ndarray) -> Share:
    found = share_of(hits)
    assert found is not None  # there is always an image
    return found
