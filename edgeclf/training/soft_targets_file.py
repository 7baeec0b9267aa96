"""Reads probabilities of the labels for single images, to train on instead of their label."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.read import read_bytes, sha256_file

from ..data.datasets import Dataset, Sample
from ..errors import DataError, reason

_MAX_BYTES = 1 << 30
_ROUNDING = 1e-3
"""A sum of printed probabilities may differ from one by so much."""


def soft_targets_sha256(file: Path) -> str:
    """Return the hash of the file; DataError if it cannot be read."""
    try:
        return sha256_file(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({reason(error)}); a CSV file in UTF-8 was expected") from None


def read_soft_targets(file: Path, dataset: Dataset, samples: Sequence[Sample]) -> np.ndarray:
    """Return the targets of samples, float32 [images, labels]: those of the file, or one for the label of an image.

    The file has the columns path, as in split.csv or relative to the data, and one for each label.  Raises DataError with the
    line for an unknown label or image, and for numbers that are not probabilities with a sum of one.
    """
    labels = dataset.labels
    targets = np.eye(len(labels), dtype=np.float32)[[dataset.index(sample) for sample in samples]]
    places = {dataset.relative(sample): place for place, sample in enumerate(samples)}
    known = {dataset.relative(sample) for sample in dataset.samples}
    found: set[str] = set()
    try:
        lines = read_bytes(file, _MAX_BYTES).decode("utf-8-sig").splitlines(keepends=True)
        reader = csv.DictReader(lines, strict=True)
        _check_columns(file, reader.fieldnames or (), labels)
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            path = row["path"]
            if path not in known:
                raise DataError(f"{where}: the data has no image {path!r}; a path relative to the data was expected")
            if path in found:
                raise DataError(f"{where}: the image {path!r} is there twice; one line for each was expected")
            found.add(path)
            values = _probabilities(where, [row[label] for label in labels])
            if path in places:
                targets[places[path]] = values
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read ({reason(error)}); a CSV file in UTF-8 was expected") from None
    if not found & set(places):
        raise DataError(f"{file} has none of the images of train; lines for these were expected")
    return targets


def _check_columns(file: Path, columns: Sequence[str], labels: Sequence[str]) -> None:
    unknown = [name for name in columns if name != "path" and name not in labels]
    missing = [name for name in ("path", *labels) if name not in columns]
    if unknown:
        raise DataError(
            f"{file}, line 1: the data has no label {unknown[0]!r}; path and {', '.join(labels)} were expected"
        )
    if missing:
        raise DataError(f"{file}, line 1: there is no column {missing[0]!r}; path and one for each label were expected")


def _probabilities(where: str, cells: Sequence[str | None]) -> np.ndarray:
    try:
        values = np.array([float(cell or "") for cell in cells])
    except ValueError:
        raise DataError(f"{where}: {cells} are not all numbers; one probability per label was expected") from None
    if not (np.isfinite(values).all() and (values >= 0).all() and abs(values.sum() - 1) <= _ROUNDING):
        raise DataError(
            f"{where}: the probabilities sum to {values.sum():g}; numbers from 0 with a sum of 1 were expected"
        )
    return values / values.sum()
