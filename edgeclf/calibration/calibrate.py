"""Chooses a data set's training images for calibration and writes them as a set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.files.outputs import claim_output

from ..data.datasets import Dataset, load_dataset
from ..data.findings import count_files, left_out_lines
from ..data.pixels import load_all, load_batches, without_unreadable
from ..display.progress import track
from ..display.report import Bars, Report
from ..errors import DataError, DependencyError, OptionError, WeightsError
from ..evaluation.export import open_exported
from ..evaluation.open_model import open_model
from ..graph.inference import infer
from ..options import CalibrateOptions, SplitOptions, TrainOptions, merged
from ..training.runs import RUN_FILE, read_run
from .sets import LIST_FILE, RECIPE_FILE, CalibrationSet, within_training_images

if TYPE_CHECKING:
    from typing import TypeGuard

FEW_OF_A_LABEL = 8
"""A set with fewer images of a label is refused."""


@dataclass(frozen=True)
class CalibrateReport(Report):
    """A calibration set on disk."""

    path: str
    rule: str
    images: int
    per_label: dict[str, int]
    sha256: str
    """Hash of the list, and so of every image in it."""
    unreadable: int = 0
    """Images that were left out because they cannot be decoded."""

    def bars(self) -> Iterator[Bars]:
        """Yield the number of images by label."""
        yield Bars("calibration images", self.per_label, "{:.0f}")

    def __str__(self) -> str:
        labels = ", ".join(f"{label} {count}" for label, count in self.per_label.items())
        summary = f"{self.path}: {self.images} images, {self.rule} ({labels}), list {self.sha256[:12]}"
        return "\n".join([summary, *left_out_lines(self.unreadable)])


def calibrate(
    source: str | Path | Dataset,
    output: str | Path,
    options: CalibrateOptions | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> CalibrateReport:
    """Choose training images for calibration and write recipe.json and images.sha256, their list, into a folder.

    source: a data set, or a run, whose images, split and seed are used then.  Raises DataError if an image is also in val or
    test, or if the set has too few images of a label or images of a single color (see CalibrateOptions.force); OptionError;
    and OutputError if the folder already holds a set.
    """
    options = merged(CalibrateOptions, options, keywords)
    for name in (RECIPE_FILE, LIST_FILE):
        claim_output(Path(output, name), overwrite)
    dataset, seed, vectors = _load(source, options)
    size = within_training_images(dataset, options.size)
    chosen = CalibrationSet.select(dataset, size, seed, options.rule, vectors)
    label_of = {sample.path: sample.label for sample in dataset.split("train")}
    per_label = Counter(dict.fromkeys(dataset.labels, 0))
    per_label.update(label_of[path] for path in chosen.paths)
    if not options.force:
        _refuse_few(per_label)
        _refuse_constant(chosen)
    chosen.warn_if_few().save(output, overwrite)
    return CalibrateReport(
        str(output),
        options.rule,
        len(chosen),
        dict(per_label),
        chosen.sha256,
        count_files(dataset.findings, "unreadable"),
    )


def _load(source: str | Path | Dataset, options: CalibrateOptions) -> tuple[Dataset, int, np.ndarray | None]:
    """Return the images with the model's own split, so that held-out ones stay out, the seed, and what the rule needs."""
    run = read_run(source) if _is_run(source) else None
    model = options.model or (str(source) if run else None)
    if options.rule == "uncertain" and model is None:
        raise OptionError("the rule uncertain needs a model, whose certainty ranks the images: add --model RUN")
    if run is not None:
        dataset, seed = run.dataset(options.data, needs=("train",)), run.seed
    elif options.data is not None:
        raise OptionError(f"data finds the images of a run, but {source} is not a run: leave it out, or give the run")
    elif model is not None:
        dataset, seed = _as_the_model_saw(source, model)
    else:
        dataset, seed = load_dataset(source, SplitOptions(seed=options.seed or 0)), 0
    if options.skip_unreadable:
        dataset = without_unreadable(dataset, ("train",))
    return dataset, seed if options.seed is None else options.seed, _vectors(dataset, options.rule, model)


def _is_run(data: str | Path | Dataset) -> TypeGuard[str | Path]:
    return not isinstance(data, Dataset) and Path(data, RUN_FILE).is_file()


def _as_the_model_saw(data: str | Path | Dataset, model: str) -> tuple[Dataset, int]:
    """Return a data set, divided as a model's data was, and the seed of that."""
    with open_model(model) as opened:
        dataset = load_dataset(data, opened.split_options)
        if opened.run is not None:
            return opened.run.recall(dataset), opened.run.seed
        return dataset, opened.split_options.seed if opened.split_options else 0


def _vectors(dataset: Dataset, rule: str, model: str | None) -> np.ndarray | None:
    """Return the features or logits of the training images, if the rule needs them."""
    if rule == "diverse":
        return _features(dataset, model)
    if rule != "uncertain" or model is None:
        return None
    with open_exported(model, at_once=cores()) as opened:
        paths = [sample.path for sample in dataset.split("train")]
        batches = load_batches(paths, opened.classifier.preprocessing, 1, "scoring training images")
        return infer(opened.classifier.runner, batches, cores())


def _features(dataset: Dataset, model: str | None) -> np.ndarray:
    """Return the training images' features from a run's backbone, or from the default backbone."""
    from ..training.features import backbone_of, extract_features

    train = dataset.split("train")
    if model is None:
        from ..training.backbones import create
        from ..training.start import preprocessing_of

        defaults = TrainOptions()
        try:
            network = create(defaults.backbone, len(dataset.labels), defaults.weights)
        except (DependencyError, WeightsError) as error:
            # The ways on that it names are options of train.
            raise type(error)(
                f"the rule diverse compares features of {defaults.backbone}, whose ImageNet weights are not here: name a run, "
                "whose backbone is used then, with --model"
            ) from None
        return extract_features(network, train, preprocessing_of(network, defaults), "features")
    if not Path(model, RUN_FILE).is_file():
        raise OptionError(f"{model} is not a run; the rule diverse needs a run, whose backbone computes the features")
    run = read_run(model)
    return extract_features(backbone_of(run), train, run.preprocessing, "features")


def _refuse_few(per_label: dict[str, int]) -> None:
    few = {label: count for label, count in per_label.items() if count < FEW_OF_A_LABEL}
    if few:
        found = ", ".join(f"{label} ({count})" for label, count in few.items())
        raise DataError(
            f"the set has fewer than {FEW_OF_A_LABEL} images of {found}: choose a larger --size or another --rule, "
            "add training images, or accept it with --force"
        )


def _refuse_constant(chosen: CalibrationSet) -> None:
    from edgeclf_runtime.images.preprocess import Preprocessing

    # A small size is enough to see whether an image has more than one color.
    pixels = load_all(chosen.paths, Preprocessing(64, 64))
    for path, image in zip(chosen.paths, track(pixels, "checking image content", len(chosen)), strict=True):
        if (image == image[0, 0]).all():
            raise DataError(
                f"{path} has a single color, so it says nothing about ranges: "
                "remove it from the training images, or accept it with --force"
            )
