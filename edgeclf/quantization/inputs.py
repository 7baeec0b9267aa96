"""The inputs of quantize(): a run's FP32 file, its images, and those that calibrate and evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.images.preprocess import Preprocessing

from ..calibration.sets import EVALUATION_IMAGES, CalibrationSet, within_training_images
from ..data.datasets import Dataset, Sample
from ..data.pixels import preprocessing_sha256
from ..data.sampling import evenly_spaced
from ..display.progress import say
from ..errors import DataError
from ..evaluation.evaluation_set import EvaluationSet
from ..graph.int8.histograms import BINS, SAMPLE
from ..options import QuantizeOptions
from .finetune.tune import MOST_IMAGES, TrainingImages, read_training_images
from .report import Conditions

if TYPE_CHECKING:
    from ..training.architecture import ImageClassifier

MOST_EVALUATION_IMAGES = 2000
"""Of a larger validation split this many, evenly spaced: every file is evaluated on them."""


@dataclass(frozen=True)
class Inputs:
    """The images that a run's files are made from and compared on."""

    options: QuantizeOptions
    dataset: Dataset
    """The run's images; with a calibration set, training images may be gone, and the evaluation images be new."""
    split_rows: Callable[[], list[dict[str, str]]]
    """Reads the lines of its split.csv."""
    preprocessing: Preprocessing
    source: Path
    """The FP32 file, in the run's folder."""
    network: Callable[[], ImageClassifier] | None
    """Makes the torch network; None for an imported run."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.source.parent

    @cached_property
    def calibration(self) -> CalibrationSet:
        """The calibration set that was named, or one of training images."""
        return _calibration_set(self.dataset, self.split_rows(), self.options)

    @cached_property
    def batches(self) -> Sequence[np.ndarray]:
        """The calibration images, float32 [1, height, width, 3] each."""
        return self.calibration.batches(self.preprocessing)

    @cached_property
    def images(self) -> EvaluationSet:
        """The evaluation images: the validation split, and spare training images if it is small."""
        samples = _evaluation_samples(self.dataset, self.calibration)
        return EvaluationSet(samples, self.dataset.labels, self.preprocessing)

    @cached_property
    def training(self) -> TrainingImages:
        """Images to fine-tune on, MOST_IMAGES at most."""
        samples = self.check_training()
        chosen = [samples[i] for i in evenly_spaced(len(samples), MOST_IMAGES)]
        return read_training_images(EvaluationSet(chosen, self.dataset.labels, self.preprocessing), self.source)

    def check_training(self) -> list[Sample]:
        """Return the images of train that are not evaluation images; DataError if there are none."""
        evaluated = set(self.images.paths)
        samples = [sample for sample in _train(self.dataset) if sample.path not in evaluated]
        if not samples:
            raise DataError(
                f"{self.folder} has no training images to fine-tune on apart from the evaluation images; add images, or "
                "quantize without --finetune-int8"
            )
        return samples

    @cached_property
    def conditions(self) -> Conditions:
        """The report's facts about them."""
        trained = {sample.path for sample in _train(self.dataset)}
        return Conditions(
            calibration_images=len(self.calibration),
            calibration_sha256=self.calibration.sha256,
            judged_images=len(self.images),
            trained_images=sum(path in trained for path in self.images.paths),
            options=asked(self.options),
        )

    """The images that a run's files are made from and compared on."""


def asked(options: QuantizeOptions) -> JsonObject:
    """Return the options that decide how a file is made and whether it passes, by name."""
    facts = {name: getattr(options, name) for name in ("calibration", "size", "method", "max_drop", "seed")}
    # Left out otherwise, as in reports of versions without them.
    form = {} if options.form == "fastest" else {"form": options.form}
    return {**facts, **form, **({"int8_epochs": options.int8_epochs} if options.finetune_int8 else {})}


def _calibration_set(dataset: Dataset, rows: list[dict[str, str]], options: QuantizeOptions) -> CalibrationSet:
    if options.calibration:
        calibration = CalibrationSet.load(options.calibration, options.data).refuse_held_out(dataset)
    else:
        size = within_training_images(dataset, options.size)
        calibration = CalibrationSet.select(dataset, size, options.seed).verify()
    _warn_of_missing_labels(dataset.labels, rows, calibration)
    return calibration.warn_if_few()


def _train(dataset: Dataset) -> list[Sample]:
    return [sample for sample in dataset.samples if sample.split == "train"]


def _warn_of_missing_labels(labels: Sequence[str], rows: list[dict[str, str]], calibration: CalibrationSet) -> None:
    label_of = {row["sha256"]: row["label"] for row in rows if row["split"] == "train"}
    seen = {label_of.get(digest) for digest, _ in calibration.entries}
    missing = [label for label in labels if label not in seen]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        say(
            f"warning: no calibration image has the label {', '.join(missing[:5])}{more}; "
            "the ranges of such images' activations are not known"
        )


def histogram_key(source: Path, calibration: CalibrationSet, preprocessing: Preprocessing) -> dict[str, str]:
    """Return what the histograms are made from."""
    return {
        "model": sha256_file(source),
        "calibration set": calibration.sha256,
        "preprocessing": preprocessing_sha256(preprocessing),
        "settings": f"{BINS} bins, {SAMPLE} values",
    }


def _evaluation_samples(dataset: Dataset, calibration: CalibrationSet) -> list[Sample]:
    """Return the validation split, topped up with training images that are not used for calibration."""
    calibrated = set(calibration.paths)
    spare = [sample for sample in _train(dataset) if sample.path not in calibrated]
    by_hash = sorted(zip(dataset.sha256(spare), spare, strict=True), key=lambda pair: pair[0])
    validation = dataset.split("val")
    samples = validation + [sample for _, sample in by_hash[: max(0, EVALUATION_IMAGES - len(validation))]]
    return [samples[i] for i in evenly_spaced(len(samples), MOST_EVALUATION_IMAGES)]
