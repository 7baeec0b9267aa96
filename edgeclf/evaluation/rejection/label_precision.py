"""Fits a threshold of confidence for each label that needs a precision of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeclf_runtime.classify.decision import allowed_indices

from ...errors import GateError, OptionError
from ...options import check_shares
from ...training.results.metrics import wilson_interval
from ..confidence_threshold import threshold_for_precision


@dataclass(frozen=True)
class LabelThreshold:
    """The threshold of one label, and its effect on the images that it was fitted on."""

    threshold: float
    """If this label is the likeliest and its confidence is lower, the image is unknown."""
    precision: float
    """Share of the images that keep this label for which it is right."""
    interval: tuple[float, float]
    """95 % interval of the precision."""
    images: int
    """Validation images for which this label is the likeliest."""
    kept: int
    """Those of them whose confidence reaches the threshold."""


def fit_label_precision(
    confidences: np.ndarray, truth: np.ndarray, labels: Sequence[str], precision: Mapping[str, float]
) -> dict[str, LabelThreshold]:
    """Fit a threshold for each label of ``precision``, to validation images' confidences and true labels.

    confidences: float [images, labels], of calibrated logits.  truth: int [images].  precision: by label, above 0 to 1.
    Raises OptionError for an unknown label and for a label that no image gets, and GateError for a precision that is not reached.
    """
    predicted, confident = confidences.argmax(1), confidences.max(1)
    found = {}
    for label, wanted in precision.items():
        check_shares(wanted, None)
        (index,) = allowed_indices(labels, label)
        ours = predicted == index
        if not ours.any():
            raise OptionError(
                f"no validation image gets the label {label!r}, so it has no threshold: leave it out, or train longer"
            )
        right = truth[ours] == index
        try:
            threshold = threshold_for_precision(confident[ours], right, wanted)
        except GateError as error:
            raise GateError(f"label {label!r}: {error}") from None
        kept = confident[ours] >= threshold
        found[label] = LabelThreshold(
            threshold=threshold,
            precision=round(float(right[kept].mean()), 4),
            interval=wilson_interval(int(right[kept].sum()), int(kept.sum())),
            images=int(ours.sum()),
            kept=int(kept.sum()),
        )
    return found
