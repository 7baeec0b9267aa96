"""A CSV file of predictions: path, label, predicted label and confidence of each image, and why it is rejected."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.outputs import named_by, new_file
from edgeclf_runtime.sinks.lines import csv_cell

COLUMNS = ("path", "label", "predicted", "confidence", "reason", "distance")

Add = Callable[..., None]
"""Takes an image's path, label, predicted label and confidence; then, by default none, a reason and a distance."""


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

        def add(
            image: str, label: str, predicted: str, confidence: float, reason: str = "", distance: float | None = None
        ) -> None:
            names = [csv_cell(name) for name in (image, label, predicted)]
            far = "" if distance is None else f"{distance:.4f}"
            writer.writerow([*names, f"{confidence:.6f}", reason, far])

        yield add


def write_predictions(
    path: str | Path,
    labels: Sequence[str],
    images: Sequence[Path],
    truth: np.ndarray,
    confidences: np.ndarray,
    reasons: Sequence[str] = (),
    distances: np.ndarray | None = None,
    overwrite: bool = False,
) -> None:
    """Write the likeliest label of each image; truth: int [images]; confidences: float [images, labels].

    reasons: why each image is rejected, or "".  distances: float [images].  See :func:`prediction_file`.
    """
    far = [None] * len(images) if distances is None else distances.tolist()
    rows = zip(images, truth, confidences, reasons or [""] * len(images), far, strict=True)
    with prediction_file(path, overwrite) as add:
        for image, index, row, reason, distance in rows:
            add(str(image), labels[index], labels[row.argmax()], row.max(), reason, distance)
