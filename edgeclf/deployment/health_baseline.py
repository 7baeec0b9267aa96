"""Writes the look of a run's training images into its bundle, so that a device notices when its camera sees something else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeclf_runtime.classify.decision import softmax
from edgeclf_runtime.streaming.health.baseline import FILE, LEAST_IMAGES, MOST_LABELS, fit_baseline
from edgeclf_runtime.streaming.health.measures import measure

from ..data.sampling import evenly_spaced
from ..display.json_file import json_text
from ..evaluation.evaluation_set import EvaluationSet

_MOST_IMAGES = 1000
_LOW = 0.05
"""Share of validation images whose confidence counts as low."""
_LEAST_VALIDATION = 40


@dataclass(frozen=True)
class UsualResults:
    """A model's results on validation images; None if there are too few of them, or too many labels."""

    labels: tuple[float, ...] | None = None
    """The share of each predicted label."""
    low: tuple[float, float] | None = None
    """A confidence that few images fall below, and the share that does."""


def write_baseline(work: Path, images: EvaluationSet, usual: UsualResults) -> list[str]:
    """Write health.json; return a note instead if there are too few images.

    At most 1,000 of the training images are measured, evenly spaced.
    """
    chosen = images.subset(evenly_spaced(len(images), _MOST_IMAGES))
    if len(chosen) < LEAST_IMAGES:
        return [
            f"run does not watch the camera: {len(chosen)} images are too few to compare it with; {LEAST_IMAGES} were expected"
        ]
    found = [measure(pixels, images.spec.color) for pixels in chosen.pixels("measuring training images")]
    baseline = fit_baseline(found, chosen.truth.tolist(), usual.labels, usual.low)
    (work / FILE).write_text(json_text(baseline.to_dict()) + "\n", encoding="utf-8")
    return []


def usual_results(logits: np.ndarray, temperature: float) -> UsualResults:
    """Return the usual results of a model with these logits on validation images, float [images, labels]."""
    if len(logits) < _LEAST_VALIDATION:
        return UsualResults()
    confidences = softmax(logits / temperature)
    low = float(np.quantile(confidences.max(1), _LOW))
    counts = np.bincount(confidences.argmax(1), minlength=logits.shape[1])
    shares = tuple((counts / len(logits)).tolist()) if len(counts) <= MOST_LABELS else None
    return UsualResults(shares, (low, float((confidences.max(1) < low).mean())))
