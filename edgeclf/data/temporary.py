"""Temporary files and folders, and those of unfinished work; if their disk is full, the error says so, whatever a library makes of it."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import OutputError

_PREFIX = "edgeclf."
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# With less left, the write that failed has taken the rest.
_FULL_BYTES = 1 << 12


@contextlib.contextmanager
def temporary_folder(in_use: bool = False) -> Iterator[Path]:
    """Yield a folder that is removed at the end; OutputError if the block fails and the folder's disk is full.

    in_use: other programs may still write into it at the end; what cannot be removed then stays.
    """
    with _explained(), tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=in_use) as folder:
        try:
            yield Path(folder)
        except Exception as error:
            if is_full(folder):
                raise OutputError(_message(error)) from None
            raise


def discard_work(folder: Path, facts_file: str) -> None:
    """Remove a folder of unfinished work, if there is one; facts_file last, so that one half removed is still known to be one.

    Raises OutputError for a folder without it, which is somebody else's.
    """
    if not folder.is_dir():
        return
    if not (folder / facts_file).is_file() and any(folder.iterdir()):
        raise OutputError(f"{folder} has no {facts_file}, so edgeclf did not create it: move or remove it yourself")
    for path in sorted(folder.iterdir(), key=lambda path: path.name == facts_file):
        path.unlink()
    folder.rmdir()


def temporary_file() -> IO[bytes]:
    """Return a file without a name and without a buffer, which disappears when it is closed; write it by :func:`write_whole`."""
    with _explained():
        return tempfile.TemporaryFile(prefix=_PREFIX, buffering=0)


def write_whole(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write all bytes, which a file without a buffer need not do at once; OutputError if the disk is full."""
    left = memoryview(data).cast("B")
    with _explained():
        while left:
            left = left[file.write(left) :]


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        # Of tempfile: it can write into no folder that it knows.
        if error.filename is None:
            raise OutputError(_message(error)) from None
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise OutputError(_message(error)) from None
        raise


def is_full(folder: str | Path) -> bool:
    """Return whether the disk of a folder has no room left, which a library's error may hide."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _FULL_BYTES
    return False


def _message(error: Exception) -> str:
    try:
        where = tempfile.gettempdir()
    except OSError:
        where = "of this machine"
    reason = error.strerror or str(error) if isinstance(error, OSError) else "its disk is full"
    return (
        f"the temporary folder {where} cannot be written ({reason}): free some space there, or name another folder in the "
        "environment variable TMPDIR"
    )
