"""Joins the rows of all parts into one file, .csv or .parquet, with a part in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from edgeclf_runtime.files.outputs import new_file

from ...display.prediction_file import COLUMNS, ERROR, prediction_file
from ...errors import DependencyError, OptionError
from .unfinished import Row

_TEXTS = ("path", "label", "predicted", "reason", ERROR)
_ROWS_OF_A_GROUP = 1 << 16
SUFFIXES = (".csv", ".parquet")


def check_output(path: str | Path) -> None:
    """Raise OptionError for another suffix than of SUFFIXES, and DependencyError if nothing here writes the file."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise OptionError(f"--output is {path}; a file that ends with {' or '.join(SUFFIXES)} was expected")
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise DependencyError(
            'writing Parquet needs pyarrow; install it: python3 -m pip install "edgeclf[parquet]", or write a .csv'
        )


def write_output(rows: Iterator[Row], path: str | Path, overwrite: bool) -> None:
    """Write all rows into the file, which appears when they are all there."""
    if Path(path).suffix.lower() == ".csv":
        with prediction_file(path, overwrite, "--output", errors=True) as add:
            for row in rows:
                add(*row)
        return
    with new_file(path, overwrite) as work, _parquet(work) as write:
        while group := list(islice(rows, _ROWS_OF_A_GROUP)):
            write(group)


@contextmanager
def _parquet(path: str) -> Iterator[Callable[[list[Row]], None]]:
    import pyarrow
    from pyarrow import parquet

    names = (*COLUMNS, ERROR)
    schema = pyarrow.schema([(name, pyarrow.string() if name in _TEXTS else pyarrow.float64()) for name in names])

    def column(values: tuple[Any, ...], kind: Any) -> Any:
        # A file's name may be no valid text.
        texts = [one.encode("utf-8", "backslashreplace").decode() if isinstance(one, str) else one for one in values]
        return pyarrow.array(texts, kind)

    with parquet.ParquetWriter(os.fspath(path), schema) as writer:
        yield lambda rows: writer.write_table(
            pyarrow.table(
                [column(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)],
                schema=schema,
            )
        )
