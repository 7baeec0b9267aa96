"""Fits the largest distance of a known image, for a wanted share of known images that is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import ModelError, OptionError


@dataclass(frozen=True)
class DistanceThreshold:
    """The threshold of one model file's distances."""

    threshold: float
    """Above this distance an image is unknown."""
    keep: float
    """The wanted share of known images."""
    images: int
    """Validation images that it was fitted on."""
    kept: float
    """Share of those that are kept."""
    interval: tuple[float, float]
    """95 % interval of the share of new known images that will be kept."""


def fit_distance_threshold(distances: np.ndarray, keep: float = 0.95) -> DistanceThreshold:
    """Fit the threshold to validation images' distances, float32 [images], which one model file gave.

    The threshold is the distance with rank ``keep * (images + 1)``, rounded up: on average over the choice of validation images, at
    least the wanted share of new ones is kept.  The share that a given choice keeps has a beta distribution, which gives the
    interval (Vovk 2012, "Conditional validity of inductive conformal predictors", arXiv 1209.2673).  With fewer than
    ``keep / (1 - keep)`` images it is the largest distance.

    Raises OptionError for a share that is not between 0 and 1, and ModelError without images, or if their distances are not finite.
    """
    if not 0 < keep < 1:
        raise OptionError(f"keep is {keep}; more than 0 and less than 1 was expected")
    bad = int((~np.isfinite(distances)).sum())
    if not len(distances) or bad:
        raise ModelError(
            f"the distances of {bad} of {len(distances)} validation images are not finite; some images with finite ones were "
            "expected: make the model again, or add validation images"
        )
    rank = conformal_rank(len(distances), keep)
    threshold = float(np.sort(distances)[rank - 1])
    return DistanceThreshold(
        threshold=threshold,
        keep=keep,
        images=len(distances),
        kept=round(float((distances <= threshold).mean()), 4),
        interval=share_interval(len(distances), rank),
    )


def conformal_rank(images: int, share: float) -> int:
    """Return the rank, from 1, of the score that a new image stays within with a probability of at least ``share``."""
    return min(images, int(np.ceil(share * (images + 1) - 1e-9)))


def images_needed(share: float) -> int:
    """Return how many images a rank needs so that a new image stays within its score with a probability of at least ``share``."""
    return int(np.ceil(share / (1 - share) - 1e-9))


def share_interval(images: int, rank: int) -> tuple[float, float]:
    """Return the 95 % interval of the share of new scores within the score of a rank, from 1, of so many."""
    from scipy.stats import beta

    low, high = beta.ppf((0.025, 0.975), rank, images + 1 - rank)
    return round(float(low), 4), round(float(high), 4)
