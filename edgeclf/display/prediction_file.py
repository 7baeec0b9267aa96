"""A CSV file of predictions: path, label, predicted label and confidence of each image."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeclf_runtime.files.outputs import new_file
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
        new_file(path, overwrite) as work,
        open(work, "w", newline="", encoding="utf-8", errors="backslashreplace") as out,
    ):
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield lambda image, label, predicted, confidence: writer.writerow(
            [csv_cell(image), csv_cell(label), csv_cell(predicted), f"{confidence:.6f}"]
        )
