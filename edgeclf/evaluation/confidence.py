"""How far a confidence can be believed: temperature, calibration error, and a threshold for "unknown".

Pure: takes logits and labels' places.  Everything is fitted on validation images, never on test images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeclf_runtime.classify.decision import softmax

from ..errors import OptionError
from ..options import check_shares

BINS = 15
"""Of the expected calibration error, as in Guo et al. 2017."""
_TEMPERATURES = (0.05, 20.0)
FEW_IMAGES = 100
"""Fewer tell too little about a temperature, which then stays 1."""


@dataclass(frozen=True)
class Confidence:
    """One model's temperature and threshold, and what they do on the images that they were fitted on."""

    temperature: float
    """Logits are divided by it before the softmax; 1 where there were fewer than FEW_IMAGES."""
    threshold: float
    """A confidence below it gives the label "unknown"."""
    images: int
    ece_before: float
    """Expected calibration error with temperature 1, 0 to 1."""
    ece_after: float
    coverage: float
    """Share of images whose confidence reaches the threshold."""
    precision: float
    """Share of those that are labelled right."""


def fit_confidence(
    logits: np.ndarray, truth: np.ndarray, precision: float | None = None, coverage: float | None = None
) -> Confidence:
    """Fit temperature and threshold to logits, float [images, labels], and the labels' places, int [images].

    precision, coverage: what the threshold is to reach, 0 to 1, one of them at most; without
    either the threshold is 0.  Raises OptionError for both, or for a precision out of reach.
    """
    check_shares(precision, coverage)
    temperature = fit_temperature(logits, truth) if len(truth) >= FEW_IMAGES else 1.0
    before, after = softmax(logits), softmax(logits / temperature)
    confident, right = after.max(1), after.argmax(1) == truth
    threshold = 0.0
    if precision is not None:
        threshold = threshold_for_precision(confident, right, precision)
    elif coverage is not None:
        threshold = threshold_for_coverage(confident, coverage)
    kept = confident >= threshold
    return Confidence(
        temperature=round(temperature, 4),
        threshold=threshold,
        images=len(truth),
        ece_before=round(expected_calibration_error(before, truth), 4),
        ece_after=round(expected_calibration_error(after, truth), 4),
        coverage=round(float(kept.mean()), 4),
        precision=round(float(right[kept].mean()), 4),
    )


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature with the least cross-entropy (Guo et al. 2017, On Calibration of Modern Neural Networks)."""
    from scipy.optimize import minimize_scalar

    def cross_entropy(log_temperature: float) -> float:
        confidences = softmax(logits / np.exp(log_temperature))
        return float(-np.log(np.maximum(confidences[np.arange(len(truth)), truth], 1e-12)).mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=tuple(np.log(_TEMPERATURES)), method="bounded").x))


def expected_calibration_error(confidences: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean distance of confidence and accuracy over BINS bins of confidence, weighted by their images."""
    confident, right = confidences.max(1), confidences.argmax(1) == truth
    places = np.minimum((confident * BINS).astype(int), BINS - 1)
    error = 0.0
    for place in np.unique(places):
        inside = places == place
        error += inside.mean() * abs(confident[inside].mean() - right[inside].mean())
    return float(error)


def threshold_for_precision(confident: np.ndarray, right: np.ndarray, precision: float) -> float:
    """Return the lowest threshold at which so large a share of the labels given is right."""
    order = np.argsort(-confident, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Images of one confidence are given or withheld together.
    last = np.append(confident[order][:-1] != confident[order][1:], True)
    reached = np.flatnonzero((share >= precision) & last)
    if not len(reached):
        raise OptionError(
            f"no threshold gives a precision of {precision}: {share[last].max():.3f} is the most that "
            f"{len(right)} validation images show; ask for less, or train longer"
        )
    return _just_below(float(confident[order][reached[-1]]))


def threshold_for_coverage(confident: np.ndarray, coverage: float) -> float:
    """Return the highest threshold that so large a share of the images reaches."""
    count = max(1, int(np.ceil(coverage * len(confident) - 1e-9)))
    return _just_below(float(np.sort(confident)[-count]))


def _just_below(value: float) -> float:
    """Return a confidence that rounds to six decimals without passing over the image that it was taken from."""
    return max(0.0, np.floor(value * 1e6) / 1e6)
