"""Selects the images on which a model is evaluated: those of a split, without the ones that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..data.checks.near_duplicates import twins
from ..data.datasets import SPLITS, Dataset, Sample, load_dataset
from ..data.findings import Finding, count_files, counted, warning
from ..data.pixels import without_unreadable
from ..data.temporary import temporary_folder
from ..display.progress import say
from ..errors import DataError
from ..options import with_split_of
from ..training.run_images import unknown_to
from ..training.runs import Run, write_split
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
    near_trained: int
    """Images that were left out because they are near-duplicates of some that the model was trained on."""
    unreadable: int
    """Images that were left out because they cannot be decoded."""
    findings: tuple[Finding, ...]
    """Findings about the data."""


def select_images(
    opened: OpenModel,
    model: str | Path,
    data: str | Path | Dataset,
    split: str,
    skip_unreadable: bool = False,
    split_of: str | None = None,
) -> Selection:
    """Return the images of a split, or of all, on which a model may be evaluated; see evaluate().

    model: what the user named, for messages.  split_of: a run whose images keep their split.  Raises DataError if there are none.
    """
    opened = _with_split_of(opened, split_of)
    dataset = load_dataset(data, opened.split_options)
    if split != "all" and opened.split_options is None and dataset.divided_by:
        raise DataError(
            f"{dataset.name} is not divided into train, val and test as the data that {model} was trained on was: "
            "evaluate all of it with --split all"
        )
    if split != "all" and opened.run is None and opened.kept_split and dataset.divided_by:
        raise DataError(
            f"{model} was trained with the split of an earlier run, and does not record which image was in which: evaluate its run "
            "instead, or name the run with --split-of"
        )
    dataset, near_trained = _without_near_trained(opened.run, dataset, split)
    dataset, trained_on = _without_trained(opened, dataset, split)
    if skip_unreadable:
        dataset = without_unreadable(dataset, SPLITS if split == "all" else (split,))
    samples = dataset.samples if split == "all" else tuple(dataset.split(split))
    return Selection(
        dataset.name,
        dataset.root,
        samples,
        trained_on,
        near_trained,
        count_files(dataset.findings, "unreadable"),
        dataset.findings,
    )


def _with_split_of(opened: OpenModel, split_of: str | None) -> OpenModel:
    """Return a model whose data is divided as a run's, if one is named."""
    if split_of is None:
        return opened
    return replace(opened, split_options=with_split_of(opened.split_options, split_of), kept_split=False)


def _without_near_trained(run: Run | None, dataset: Dataset, split: str) -> tuple[Dataset, int]:
    """Return a data set without new images that are near-duplicates of some that a run was trained on, and their number.

    Those that the run had in val or test stay, as do all that the data's own folders put there.
    """
    known = run.trained_on() if run is not None else frozenset()
    if run is None or not known or split == "train" or (split != "all" and not _divided_here(dataset)):
        return dataset, 0
    new = [sample.path for sample in unknown_to(run.split_rows(), dataset) if split in (sample.split, "all")]
    hashes = zip(dataset.samples, dataset.sha256(dataset.samples), strict=True)
    trained = [sample.path for sample, digest in hashes if digest in known] if new else []
    found = twins(new, trained) if trained else {}
    if not found:
        return dataset, 0
    first = next(path for path in new if path in found)
    message = (
        f"{counted(len(found), 'new image')} of {dataset.name} left out: nearly the same picture as one that the model was trained on "
        f"(the first: {first}, like {found[first]})"
    )
    say(f"warning: {message}")
    findings = (*dataset.findings, warning("near-trained", message, found))
    return replace(dataset.without(set(found)), findings=findings), len(found)


def _without_trained(opened: OpenModel, dataset: Dataset, split: str) -> tuple[Dataset, int]:
    """Return a data set divided as the model's was, without the images that it was trained on, and their number.

    They stay in train, and where the data's own folders have them, with a warning.
    """
    run = opened.run
    divided = run is not None and _divided_here(dataset)
    trained = set() if split == "train" else _trained(opened, dataset, split)
    if run is not None and not divided and split != "all":
        if trained:
            total = dataset.counts()[split]
            say(f"warning: the model was trained on {len(trained)} of the {total} images in {split} of {dataset.name}")
        return dataset, 0
    if run is None and split == "all" and not trained:
        dataset = _with_doubt(opened, dataset)
    left = dataset.without(trained)
    if trained and not left.samples:
        raise DataError(
            f"the model was trained on every image of {dataset.name}: evaluate other images, or these with --split train"
        )
    return run.recall(left) if run is not None and divided else left, len(trained)


def _divided_here(dataset: Dataset) -> bool:
    """Return whether a data set came without a split; one with a folder train/ and no test has said which images are which."""
    return dataset.divided_by is not None and dataset.counts()["test"] > 0


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
    return set()


def _with_doubt(opened: OpenModel, dataset: Dataset) -> Dataset:
    """Return a data set with a warning that a bundle or a file may have been trained on some of its images.

    It has only a hash of the list of its run's images, so other data than exactly these is not recognized.
    """
    options = opened.split_options
    if options is None and not opened.split_sha256:
        return dataset
    train = dataset.counts()["train"]
    # By its hash, an image is on the side on which it was at training, or would have been.
    stable = (
        options is not None and options.method == "stable" and dataset.divided_by == options and not opened.kept_split
    )
    most = train if stable or (dataset.divided_by is None and train) else len(dataset.samples)
    message = (
        f"{opened.name} does not record which images it was trained on, so up to {most} of the {len(dataset.samples)} images "
        f"of {dataset.name} may be among them, and its figures too good: evaluate the run instead, which leaves them out"
        + (", or the others with --split test" if stable else "")
    )
    say(f"warning: {message}")
    return replace(dataset, findings=(*dataset.findings, warning("perhaps-trained-on", message)))


def _is_the_trained_data(opened: OpenModel, dataset: Dataset) -> bool:
    """Return whether a bundle's run was trained on exactly this data."""
    if not opened.split_sha256:
        return False
    with temporary_folder() as folder:
        return write_split(Path(folder), dataset) == opened.split_sha256
