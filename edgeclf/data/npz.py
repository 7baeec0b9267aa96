"""Reads and writes NumPy files with a JSON header; reading unpickles nothing and limits the unpacked size."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.files.schema import parse_json

from ..display.json_file import json_text

MOST_BYTES = 1 << 28
_HEADER = "key"


def write_npz(path: str | Path, header: object, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays and a header, which must be JSON-serializable."""
    with open(path, "wb") as stream:
        everything: dict[str, Any] = {_HEADER: np.array(json_text(header)), **arrays}
        np.savez_compressed(stream, **everything)


@contextmanager
def reading_npz(path: Path, check: Callable[[object, str], object]) -> Iterator[tuple[Any, Mapping[str, np.ndarray]]]:
    """Yield the header, checked by ``check``, and the arrays, each read on access.

    Raises ValueError for a file that is missing, damaged, or larger than MOST_BYTES when unpacked.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES} bytes when unpacked")
        with np.load(path, allow_pickle=False) as stored:
            header = parse_json(str(stored[_HEADER]).encode())
            check(header, "")
            yield header, stored
    except (OSError, EOFError, LookupError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(str(error)) from error
