"""Selects the images on which a model is evaluated: those of a split, without the ones that it was trained on."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..data.datasets import SPLITS, Dataset, Sample, load_dataset
from ..data.findings import Finding, count_files
from ..data.pixels import without_unreadable
from ..display.progress import say
from ..errors import DataError, OptionError
from ..training.runs import write_split
from .open_model import OpenModel


@dataclass(frozen=True)
class Selection:
    """Labeled images for an evaluation."""

    data: str
    """The data's name."""
    root: Path
    """The folder of the images."""
    samples: tuple[Sample, ...]
    trained_on: int
    """Images that were left out because the model was trained on them."""
    unreadable: int
    """Images that were left out because they cannot be decoded."""
    findings: tuple[Finding, ...]
    """Findings about the data."""


def check_split(split: str) -> None:
    """Raise OptionError for a split that does not exist."""
    if split not in (*SPLITS, "all"):
        raise OptionError(f"split is {split!r}; {', '.join(SPLITS)} or all was expected")


def select_images(
    opened: OpenModel, model: str | Path, data: str | Path | Dataset, split: str, skip_unreadable: bool = False
) -> Selection:
    """Return the images of a split, or of all, on which a model may be evaluated; see evaluate().

    model: what the user named, for messages.  Raises DataError if there are none.
    """
    dataset = load_dataset(data, opened.split_options)
    if split != "all" and opened.split_options is None and dataset.divided_by:
        raise DataError(
            f"{dataset.name} is not divided into train, val and test as the data that {model} was trained on was: "
            "evaluate all of it with --split all"
        )
    dataset, trained_on = _without_trained(opened, dataset, split)
    if skip_unreadable:
        dataset = without_unreadable(dataset, SPLITS if split == "all" else (split,))
    samples = dataset.samples if split == "all" else tuple(dataset.split(split))
    return Selection(
        dataset.name,
        dataset.root,
        samples,
        trained_on,
        count_files(dataset.findings, "unreadable"),
        dataset.findings,
    )


def _without_trained(opened: OpenModel, dataset: Dataset, split: str) -> tuple[Dataset, int]:
    """Return a data set divided as the model's was, without the images that it was trained on, and their number.

    They stay in train, and where the data's own folders have them, with a warning.
    """
    run = opened.run
    # A data set with a folder train/ and no test has said which images are which.
    divided = run is not None and dataset.divided_by is not None and dataset.counts()["test"] > 0
    trained = set() if split == "train" else _trained(opened, dataset, split)
    if run is not None and not divided and split != "all":
        if trained:
            total = dataset.counts()[split]
            say(f"warning: the model was trained on {len(trained)} of the {total} images in {split} of {dataset.name}")
        return dataset, 0
    left = dataset.without(trained)
    if trained and not left.samples:
        raise DataError(
            f"the model was trained on every image of {dataset.name}: evaluate other images, or these with --split train"
        )
    return run.recall(left) if run is not None and divided else left, len(trained)


def _trained(opened: OpenModel, dataset: Dataset, split: str) -> set[Path]:
    """Return the images of a split, or of all, that a model was trained on, as far as that is known."""
    asked = [sample for sample in dataset.samples if split in (sample.split, "all")]
    if opened.run is not None:
        known = opened.run.trained_on()
        return {sample.path for sample, digest in zip(asked, dataset.sha256(asked), strict=True) if digest in known}
    if split != "all":
        return set()
    if _is_the_trained_data(opened, dataset):
        return {sample.path for sample in asked if sample.split == "train"}
    if opened.split_options is not None:
        say(
            f"warning: {opened.name} does not record which images it was trained on, so some of {dataset.name} may be "
            "among them: evaluate the run instead, which leaves them out"
        )
    return set()


def _is_the_trained_data(opened: OpenModel, dataset: Dataset) -> bool:
    """Return whether a bundle's run was trained on exactly this data."""
    if not opened.split_sha256:
        return False
    with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
        return write_split(Path(folder), dataset) == opened.split_sha256
