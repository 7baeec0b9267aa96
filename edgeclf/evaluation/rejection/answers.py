"""Answers: a model's confidences and distances of images, and what it rejects of them, as a device computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeclf_runtime.classify.decision import softmax
from edgeclf_runtime.classify.rejection import CONFIDENCE, DISTANCE, Rejection
from edgeclf_runtime.runners.base import Outputs

from ...training.results.metrics import log_probabilities
from ..bulk.image_outputs import image_outputs
from ..evaluation_set import EvaluationSet
from ..logit_store import logits_of, outputs_of
from ..open_model import OpenModel


@dataclass(frozen=True)
class Answers:
    """A model's outputs for some images, and the rules by which it rejects them."""

    logits: np.ndarray
    """float32 [images, labels]."""
    distances: np.ndarray | None
    """float32 [images], infinite if the features are not finite; None if the model has no distance."""
    temperature: float
    rejection: Rejection

    @property
    def finite(self) -> bool:
        """True if all logits are finite; otherwise confidences mean nothing."""
        return bool(np.isfinite(self.logits).all())

    @cached_property
    def confidences(self) -> np.ndarray:
        """The probabilities, float64 [images, labels]."""
        return softmax(self.logits / self.temperature)

    @property
    def doubts(self) -> np.ndarray:
        """The negative logarithm of the highest probability, float64 [images]: high for images of which the model is not sure."""
        return -log_probabilities(self.logits, self.temperature).max(1)

    @property
    def rejects_confidences(self) -> bool:
        """True if there is a threshold of confidence."""
        return self.rejection.threshold > 0 or bool(self.rejection.by_label)

    @property
    def rejects_distances(self) -> bool:
        """True if there is a threshold of distance."""
        return self.distances is not None and self.rejection.most_distance is not None

    @cached_property
    def reasons(self) -> list[str]:
        """The reason why each image is rejected, "" if it is not."""
        return self._reasons(self.rejection)

    def kept(self, *reasons: str) -> np.ndarray:
        """Return which images keep their label if only these reasons count: bool [images]."""
        rules = self.rejection
        if CONFIDENCE not in reasons:
            rules = rules._replace(threshold=0.0, by_label={})
        if DISTANCE not in reasons:
            rules = rules._replace(most_distance=None)
        return np.array([not reason for reason in self._reasons(rules)], bool)

    def _reasons(self, rules: Rejection) -> list[str]:
        indices, confident = self.confidences.argmax(1).tolist(), self.confidences.max(1).tolist()
        far = [None] * len(indices) if self.distances is None else self.distances.tolist()
        return [rules.reason(*one) for one in zip(indices, confident, far, strict=True)]


def known_answers(opened: OpenModel, images: EvaluationSet, engine: str = "local") -> Answers:
    """Return an open model's Answers to labeled images; outputs of a run's file are kept beside it.

    engine: as in EvaluateOptions.
    """
    if opened.classifier.in_use.rejection.known is None:
        return _answers(opened, Outputs(logits_of(opened, images, engine)))
    return _answers(opened, outputs_of(opened, images, engine))


def foreign_answers(opened: OpenModel, paths: Sequence[Path], engine: str = "local") -> Answers:
    """Return an open model's Answers to image files without a label."""
    images = EvaluationSet.unlabeled(paths, opened.classifier.preprocessing)
    with_distance = opened.classifier.in_use.rejection.known is not None
    return _answers(
        opened,
        image_outputs(opened, images, f"evaluating {opened.name} on foreign images", engine, features=with_distance),
    )


def _answers(opened: OpenModel, outputs: Outputs) -> Answers:
    in_use, distances = opened.classifier.in_use, None
    if in_use.rejection.known is not None and outputs.features is not None:
        distances = in_use.rejection.known.distance(np.asarray(outputs.features, np.float32), outputs.logits)
    return Answers(outputs.logits, distances, in_use.temperature, in_use.rejection)
