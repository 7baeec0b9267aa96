"""A CSV file of predictions: path, label, predicted label and confidence of each image."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgeclf_runtime.classify.decision import softmax
from edgeclf_runtime.files.outputs import named_by, new_file
from edgeclf_runtime.sinks.lines import csv_cell

COLUMNS = ("path", "label", "predicted", "confidence")
Add = Callable[[str, str, str, float], None]


@contextmanager
def prediction_file(path: str | Path | None, overwrite: bool = False) -> Iterator[Add]:
    """Yield a function that adds a row; the file appears when the block succeeds.  Without a path nothing is written.

    A text that a spreadsheet would run as a formula gets a leading apostrophe.
    Raises OutputError if the file exists and ``overwrite`` is not given.
    """
    if path is None:
        yield lambda *row: None
        return
    with (
        named_by("--predictions"),
        new_file(path, overwrite) as work,
        open(work, "w", newline="", encoding="utf-8", errors="backslashreplace") as out,
    ):
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield lambda image, label, predicted, confidence: writer.writerow(
            [csv_cell(image), csv_cell(label), csv_cell(predicted), f"{confidence:.6f}"]
        )


def write_predictions(
    path: str | Path,
    labels: Sequence[str],
    images: Sequence[Path],
    truth: np.ndarray,
    logits: np.ndarray,
    temperature: float,
    overwrite: bool = False,
) -> None:
    """Write a model's answers; truth: int [images]; logits: float32 [images, labels].  See :func:`prediction_file`."""
    with prediction_file(path, overwrite) as add:
        for image, index, row in zip(images, truth, softmax(logits / temperature), strict=True):
            add(str(image), labels[index], labels[row.argmax()], row.max())
