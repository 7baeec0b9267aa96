"""Calibrates confidences: temperature, calibration error, and the threshold for "unknown".

Everything is fitted on validation images, never on test images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeclf_runtime.classify.decision import softmax

from ..errors import GateError
from ..options import check_shares
from ..training.results.metrics import expected_calibration_error

_TEMPERATURES = (0.05, 20.0)
FEW_IMAGES = 100
"""With fewer images the temperature stays 1."""


@dataclass(frozen=True)
class Confidence:
    """One model's temperature and threshold, and their effect on the images that they were fitted on."""

    temperature: float
    """Logits are divided by it before the softmax; 1 if there were fewer than FEW_IMAGES."""
    threshold: float
    """Below this confidence the label is "unknown"."""
    images: int
    ece_before: float
    """Expected calibration error with temperature 1, in 0 to 1."""
    ece_after: float
    coverage: float
    """Share of images whose confidence reaches the threshold."""
    precision: float
    """Share of those whose label is correct."""


def fit_confidence(
    logits: np.ndarray, truth: np.ndarray, precision: float | None = None, coverage: float | None = None
) -> Confidence:
    """Fit temperature and threshold to logits, float [images, labels], and true labels, int [images].

    precision, coverage: goal of the threshold, 0 to 1, at most one of them; without either the
    threshold is 0.  Raises OptionError for both, and GateError for a precision that is not reached.
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
    """Return the temperature with the lowest cross-entropy (Guo et al. 2017, On Calibration of Modern Neural Networks)."""
    from scipy.optimize import minimize_scalar

    def cross_entropy(log_temperature: float) -> float:
        confidences = softmax(logits / np.exp(log_temperature))
        return float(-np.log(np.maximum(confidences[np.arange(len(truth)), truth], 1e-12)).mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=tuple(np.log(_TEMPERATURES)), method="bounded").x))


def threshold_for_precision(confident: np.ndarray, right: np.ndarray, precision: float) -> float:
    """Return the lowest threshold at which the given share of the remaining labels is correct; GateError if there is none."""
    order = np.argsort(-confident, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Images with equal confidence stay or go together.
    last = np.append(confident[order][:-1] != confident[order][1:], True)
    reached = np.flatnonzero((share >= precision) & last)
    if not len(reached):
        raise GateError(
            f"no threshold reaches a precision of {precision}; the best on {len(right)} validation images is "
            f"{share[last].max():.3f}: ask for less, or train longer"
        )
    return _just_below(float(confident[order][reached[-1]]))


def threshold_for_coverage(confident: np.ndarray, coverage: float) -> float:
    """Return the highest threshold that the given share of images reaches."""
    count = max(1, int(np.ceil(coverage * len(confident) - 1e-9)))
    return _just_below(float(np.sort(confident)[-count]))


def _just_below(value: float) -> float:
    """Round down to six decimals, so that the image with this confidence still reaches the threshold."""
    return max(0.0, np.floor(value * 1e6) / 1e6)
