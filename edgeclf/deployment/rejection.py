"""Fits what a bundle's models reject: images unlike the training images, and labels that need a precision of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from edgeclf_runtime.classify.decision import softmax
from edgeclf_runtime.classify.known_images import KnownImages
from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.results import USUAL
from edgeclf_runtime.runners.base import Outputs

from ..evaluation.confidence_threshold import Confidence, fit_confidence
from ..evaluation.evaluation_set import EvaluationSet
from ..evaluation.logit_store import LogitStore
from ..evaluation.rejection.distance_threshold import DistanceThreshold, fit_distance_threshold
from ..evaluation.rejection.known_images import fit_known_images, fit_scales, write_known_images
from ..evaluation.rejection.label_precision import LabelThreshold, fit_label_precision
from ..evaluation.rejection.label_sets import LabelSets, fit_label_sets
from ..options import BundleOptions
from ..targets import model_file
from ..training.runs import Run

KNOWN_IMAGES = "known_images.npz"
"""The file in a bundle."""
LEAST_TRAINING_IMAGES = 20


@dataclass(frozen=True)
class ModelRejection:
    """The rules by which a device rejects one model's results, fitted to validation images."""

    confidence: Confidence
    labels: dict[str, LabelThreshold] = field(default_factory=dict)
    """Thresholds of labels that need a precision of their own."""
    label_sets: LabelSets | None = None
    scales: tuple[float, ...] | None = None
    """Of the distance; None if the model gives none."""
    usual: DistanceThreshold | None = None
    """The usual distance; None if the model gives none."""
    distance: DistanceThreshold | None = None
    """None if no distance is rejected."""

    def entry(self) -> JsonObject:
        """Return what the manifest's entry of the model holds of it."""
        found: JsonObject = {"temperature": self.confidence.temperature, "threshold": self.confidence.threshold}
        if self.labels:
            found["label_thresholds"] = {label: one.threshold for label, one in self.labels.items()}
        if self.label_sets is not None:
            found["in_set"] = self.label_sets.threshold
        if self.usual is not None:
            found["known_images"] = {
                "file": KNOWN_IMAGES,
                "scales": self.scales,
                "usual_distance": self.usual.threshold,
                "most_distance": None if self.distance is None else self.distance.threshold,
            }
        return found

    def metrics(self) -> JsonObject:
        """Return the figures behind it, for the manifest."""
        found: JsonObject = {"confidence": asdict(self.confidence)}
        if self.labels:
            found["label_precision"] = {label: asdict(one) for label, one in self.labels.items()}
        if self.label_sets is not None:
            found["label_sets"] = asdict(self.label_sets)
        if self.distance is not None:
            found["distance"] = asdict(self.distance)
        return found


def infer_validation(run: Run, models: list[str], images: EvaluationSet, store: LogitStore) -> dict[str, Outputs]:
    """Return each model's logits and features of the validation images."""
    return {
        name: store.outputs(run.file(model_file(name)), name, images, f"fitting the confidence of {name}")
        for name in models
    }


def fit_known(run: Run, training: EvaluationSet, validation: Outputs, store: LogitStore) -> KnownImages | None:
    """Return the summary of training images' FP32 features; None without features, or with too few images.

    validation: FP32's outputs for the validation images.
    """
    if validation.features is None or len(training) < LEAST_TRAINING_IMAGES:
        return None
    features = store.outputs(run.file(model_file("fp32")), "fp32", training, "inferring training images").features
    if features is None:
        return None
    val_features = np.asarray(validation.features, np.float32)
    return fit_known_images(np.asarray(features, np.float32), training.truth, val_features, validation.logits)


def fit_rejections(
    validation: Mapping[str, Outputs],
    truth: np.ndarray,
    labels: tuple[str, ...],
    known: KnownImages | None,
    options: BundleOptions,
) -> dict[str, ModelRejection]:
    """Return each model's ModelRejection, from its outputs for validation images with these true labels."""
    return {name: _fit(outputs, truth, labels, known, options) for name, outputs in validation.items()}


def _fit(
    outputs: Outputs, truth: np.ndarray, labels: tuple[str, ...], known: KnownImages | None, options: BundleOptions
) -> ModelRejection:
    logits = outputs.logits
    confidence = fit_confidence(logits, truth, options.common_precision, options.coverage)
    confidences = softmax(logits / confidence.temperature)
    found = ModelRejection(
        confidence,
        fit_label_precision(confidences, truth, labels, options.label_precision),
        None if options.label_sets is None else fit_label_sets(confidences, truth, options.label_sets),
    )
    if known is None or outputs.features is None:
        return found
    features = np.asarray(outputs.features, np.float32)
    scales = tuple(fit_scales(known, features, logits))
    distances = known.scaled(scales).distance(features, logits)
    return replace(
        found,
        scales=scales,
        usual=fit_distance_threshold(distances, USUAL),
        distance=None if options.keep is None else fit_distance_threshold(distances, options.keep),
    )


def write_known(work: Path, known: KnownImages | None) -> list[str]:
    """Write the summary of known images; return a note instead if there is none."""
    if known is None:
        return [
            "no model tells the distance from the training images: that needs features and "
            f"{LEAST_TRAINING_IMAGES} training images"
        ]
    write_known_images(work / KNOWN_IMAGES, known)
    return []
