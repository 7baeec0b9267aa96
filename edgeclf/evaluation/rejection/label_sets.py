"""Fits sets of labels that hold the right one with a promised probability: split conformal prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeclf_runtime.classify.label_sets import label_sets

from ...errors import ModelError, OptionError
from .distance_threshold import conformal_rank, images_needed, share_interval


@dataclass(frozen=True)
class LabelSets:
    """The threshold of one model file's label sets, and their size on the images that it was fitted on."""

    threshold: float
    """Labels whose confidence reaches it are in the set."""
    coverage: float
    """The promised share of sets with the right label."""
    interval: tuple[float, float]
    """95 % interval of the share of new images whose set will have it."""
    images: int
    mean_size: float
    """Mean number of labels of a set."""
    empty: float
    """Share of sets without a label."""


def fit_label_sets(confidences: np.ndarray, truth: np.ndarray, coverage: float = 0.9) -> LabelSets:
    """Fit label sets to validation images' confidences, float [images, labels], and labels, int [images].

    The set has every label whose confidence reaches a threshold: of all ways with the same coverage, its sets are the smallest on
    average (Sadinle, Lei and Wasserman 2019, "Least ambiguous set-valued classifiers with bounded error levels", JASA 114).
    The promise holds on average over images, not for each label, and for images like those of validation only.

    Raises OptionError for a coverage that is not between 0 and 1, or that needs more images; ModelError for confidences
    that are not finite.
    """
    if not 0 < coverage < 1:
        raise OptionError(f"the coverage of label sets is {coverage}; more than 0 and less than 1 was expected")
    if not np.isfinite(confidences).all():
        raise ModelError("the confidences of some validation images are not finite: make the model again")
    images = len(truth)
    rank = conformal_rank(images, coverage)
    if not images or rank < coverage * (images + 1) - 1e-9:
        raise OptionError(
            f"label sets with a coverage of {coverage} need {images_needed(coverage)} validation images, and there are {images}: "
            "ask for less, or add images"
        )
    right = np.sort(confidences[np.arange(images), truth])
    # Rounded down, so that the image with this confidence still reaches it.
    threshold = max(0.0, float(np.floor(right[images - rank] * 1e6) / 1e6))
    sizes = label_sets(confidences, threshold).sum(1)
    return LabelSets(
        threshold=threshold,
        coverage=coverage,
        interval=share_interval(images, rank),
        images=images,
        mean_size=round(float(sizes.mean()), 4),
        empty=round(float((sizes == 0).mean()), 4),
    )
