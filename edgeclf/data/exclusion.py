"""A list of images to leave out of training: exclude.csv of an audit, or a text file with one path per line.

Paths are relative to the data set's folder, or absolute.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from edgeclf_runtime.files.read import read_bytes
from edgeclf_runtime.sinks.lines import csv_cell

from ..display.progress import say
from ..errors import DataError, reason
from ..options import TrainOptions
from .datasets import Dataset, load_dataset
from .findings import counted, warning

_COLUMNS = ("path", "reason", "label", "suggested_label", "score")
_KIND = "excluded"
_MAX_BYTES = 1 << 28


@dataclass(frozen=True)
class Exclusion:
    """One line: an image that training should do without."""

    path: str
    reason: str
    label: str
    """The label that the image has."""
    suggested_label: str = ""
    score: float | None = None
    """Of a label: its probability; of an outlier: its distance."""


def write_exclusions(file: Path, rows: Iterable[Exclusion]) -> None:
    """Write a CSV file; a text that a spreadsheet would run as a formula gets a leading apostrophe."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in rows:
            score = "" if row.score is None else f"{row.score:.6g}"
            texts = (row.path, row.reason, row.label, row.suggested_label)
            writer.writerow([*map(csv_cell, texts), score])


def read_exclusions(file: str | Path) -> list[str]:
    """Return the paths that a CSV file has in its column path, or else each line of a text file.

    Raises DataError for a file that cannot be read.
    """
    try:
        text = read_bytes(file, _MAX_BYTES).decode("utf-8-sig")
        lines = text.splitlines()
        header = next(csv.reader(lines[:1]), [])
        if "path" in header:
            paths = [row["path"] or "" for row in csv.DictReader(text.splitlines(keepends=True))]
        elif Path(file).suffix.lower() == ".csv":
            raise ValueError(f"its columns are {', '.join(header)}; the column path was expected")
        else:
            paths = lines
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{file} is not a list of images to leave out ({reason(error)}): a CSV file with a column path, such as exclude.csv "
            "of edgeclf audit, or a text file with one path per line was expected"
        ) from None
    return [path.strip() for path in paths if path.strip()]


def load_training_data(data: str | Path | Dataset, options: TrainOptions) -> Dataset:
    """Read the data set to train on, without the images that ``options.exclude`` lists."""
    return without_excluded(load_dataset(data, options.split, options.download), options.exclude)


def without_excluded(dataset: Dataset, file: str | Path | None) -> Dataset:
    """Return a data set without the images that a file lists, which a finding counts; the others keep their splits.

    Paths that the data set does not have are another finding.  A data set from which images were already left out so is
    returned as it is.  Raises DataError if no image would be left, or if the file cannot be read.
    """
    if file is None or any(finding.kind == _KIND for finding in dataset.findings):
        return dataset
    known = {_absolute(dataset, str(sample.path)): sample.path for sample in dataset.samples}
    found, unknown = set(), []
    for path in read_exclusions(file):
        # The apostrophe is ours; see write_exclusions.
        names = [path, path[1:]] if path.startswith("'") else [path]
        match = next((known[at] for at in (_absolute(dataset, name) for name in names) if at in known), None)
        if match is None:
            unknown.append(path)
        else:
            found.add(match)
    if known and len(found) == len(known):
        raise DataError(f"{file} lists every image of {dataset.name}: remove lines from it")
    message = f"{counted(len(found), 'image')} left out, listed in {Path(file).name}"
    findings = [warning(_KIND, message, sorted(found))] if found else []
    if unknown:
        message = (
            f"{counted(len(unknown), 'path')} in {file} not among the images of {dataset.name}, first {unknown[0]}"
        )
        findings.append(warning("unknown-path", message, unknown))
    for finding in findings:
        say(f"{finding.severity}: {finding.message}")
    return replace(dataset.without(found), findings=(*dataset.findings, *findings))


def _absolute(dataset: Dataset, path: str) -> str:
    return os.path.normpath(os.path.join(os.path.abspath(dataset.root), path))
