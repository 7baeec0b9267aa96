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
ERROR = "error"
"""A column after those, if rows of images that cannot be decoded are wanted."""

Add = Callable[..., None]
"""Takes an image's path, label, predicted label and confidence; then, by default none, a reason, a distance and an error."""


@contextmanager
def prediction_file(
    path: str | Path | None, overwrite: bool = False, option: str = "--predictions", errors: bool = False
) -> Iterator[Add]:
    """Yield a function that adds a row; the file appears when the block succeeds.  Without a path nothing is written.

    option: of the command line that named the file.  errors: add the column ERROR.  A text that a spreadsheet would run as a formula gets a leading apostrophe.
    Raises OutputError if the file exists and ``overwrite`` is not given.
    """
    if path is None:
        yield lambda *row: None
        return
    with (
        named_by(option),
        new_file(path, overwrite) as work,
        open(work, "w", newline="", encoding="utf-8", errors="backslashreplace") as out,
    ):
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow((*COLUMNS, ERROR) if errors else COLUMNS)

        def add(
            image: str,
            label: str,
            predicted: str,
            confidence: float | None,
            reason: str = "",
            distance: float | None = None,
            error: str = "",
        ) -> None:
            names = [csv_cell(name) for name in (image, label, predicted)]
            sure = "" if confidence is None else f"{confidence:.6f}"
            far = "" if distance is None else f"{distance:.4f}"
            writer.writerow([*names, sure, reason, far, *([csv_cell(error)] if errors else [])])

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
