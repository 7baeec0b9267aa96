"""Finds a run's images again: in the folder of their training, or by their content in a data set that holds them now."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..data.datasets import Dataset, Sample
from ..data.findings import Finding, counted, warning
from ..errors import DataError

Row = Mapping[str, str]
"""A line of split.csv: path, label, split, group and sha256."""


def at_root(rows: Iterable[Row], root: Path) -> tuple[dict[Path, str], list[Sample], list[Path]]:
    """Return the hashes and samples of the images that are still in their folder, and the paths of the others."""
    hashes, samples, gone = {}, [], []
    for row in rows:
        # Purely lexical, as the path was made: after a symbolic link, ".." would lead elsewhere.
        path = Path(os.path.normpath(root / row["path"]))
        if path.exists():
            samples.append(Sample(path, row["label"], row["split"], row["group"]))
            hashes[path] = row["sha256"]
        else:
            gone.append(path)
    return hashes, samples, gone


def in_dataset(rows: Iterable[Row], data: Dataset) -> tuple[dict[Path, str], list[Sample], list[Path]]:
    """Return the same for images that are now in ``data``, whatever their names are there."""
    places: dict[str, dict[str, Path]] = defaultdict(dict)
    for sample, digest in zip(data.samples, data.sha256(data.samples), strict=True):
        if digest:
            places[digest][data.relative(sample)] = sample.path
    hashes, samples, gone = {}, [], []
    for row in rows:
        copies = places.get(row["sha256"], {})
        path = copies.get(row["path"]) or next(iter(copies.values()), None)
        if path is None:
            gone.append(Path(row["path"]))
        elif path not in hashes:
            samples.append(Sample(path, row["label"], row["split"], row["group"]))
            hashes[path] = row["sha256"]
    return hashes, samples, gone


def unknown_to(rows: Iterable[Row], data: Dataset) -> list[Sample]:
    """Return the images of a data set that a run has not seen."""
    known = {row["sha256"] for row in rows}
    return [
        sample for sample, digest in zip(data.samples, data.sha256(data.samples), strict=True) if digest not in known
    ]


def about_left_out(name: str, gone: Sequence[Path], total: int, new: Sequence[Sample], data: str) -> list[Finding]:
    """Return the findings about images of a run that are not there any more, and images in ``data`` that are not its own."""
    findings = []
    if gone:
        message = (
            f"{len(gone)} of the {total} images of {name} are gone, first {gone[0]}; continuing with the other "
            f"{total - len(gone)}"
        )
        findings.append(warning("gone", message, gone))
    if new:
        findings.append(warning("new", f"{counted(len(new), 'image')} of {data} left out: not among those of {name}"))
    return findings


def about_accepted(name: str, count: int, data: str) -> Finding:
    """Return the finding about new images that are taken to evaluate on."""
    message = f"{data} has no validation image of {name}; its {counted(count, 'other image')} are taken to evaluate on"
    return warning("new", message)


def nothing_left(name: str, root: str, gone: Sequence[Path], given: Dataset | None) -> str:
    """Return the error for a run of which no image was found."""
    if given is not None:
        return (
            f"{given.name} has none of the {len(gone)} images of {name}, which are recognized by their content: give the "
            f"images that it was trained on, as they were in {root}, with --data"
        )
    return (
        f"{len(gone)} of the {len(gone)} images of {name} are gone, first {gone[0]}: put them back, or, if they have moved, "
        "name the folder that has them now with --data"
    )


def refuse_lost_labels(name: str, rows: Iterable[Row], found: Iterable[Sample], splits: Iterable[str]) -> None:
    """Raise DataError for a label of which a split had images and has none left."""
    left = {(sample.split, sample.label) for sample in found}
    for split in splits:
        lost = sorted(
            {row["label"] for row in rows if row["split"] == split} - {label for at, label in left if at == split}
        )
        if lost:
            raise DataError(
                f"no image of the label {lost[0]!r} is left in {split} of {name}, which this step needs: put the images back, "
                "or name the folder that has them with --data"
            )


def as_recorded(rows: Iterable[Row], data: Dataset) -> Dataset:
    """Return a data set with the images of a run in the splits in which the run had them, found by their content."""
    known = splits_by_content(rows)
    samples = []
    for sample, digest in zip(data.samples, data.sha256(data.samples), strict=True):
        had = known.get(digest, ())
        # A copy may be in another split, if the data came with its own.
        samples.append(sample if not had or sample.split in had else replace(sample, split=had[0]))
    return replace(data, samples=tuple(samples))


def about_changed_sides(run: str, rows: Iterable[Row], data: Dataset) -> list[Finding]:
    """Return the finding about images that a run had in another split, or nothing; data that came with its splits has none."""
    if data.divided_by is None:
        return []
    known = splits_by_content(rows)
    changed = [
        sample.path
        for sample, digest in zip(data.samples, data.sha256(data.samples), strict=True)
        if digest in known and sample.split not in known[digest]
    ]
    if not changed:
        return []
    message = (
        f"{counted(len(changed), 'image')} of {run}, which is replaced, changed sides, so the two results cannot be compared: "
        f"--split-of {run} keeps each in its split"
    )
    return [warning("changed-side", message, changed)]


def splits_by_content(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return the splits in which a run had each image, by its hash."""
    known: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["sha256"] and row["split"] not in known[row["sha256"]]:
            known[row["sha256"]].append(row["split"])
    known.pop("", None)
    return dict(known)
