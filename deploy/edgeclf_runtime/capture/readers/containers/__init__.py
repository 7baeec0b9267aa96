"""Reads video containers, for what OpenCV does not report or reports differently in each version.

Each module has ``read``, which takes an open file and returns a VideoHeader, and ``walk``, which goes through the whole
file.
They read headers but never images, seek over everything else, and take a bounded number of steps, whatever the file
contains.
"""

import contextlib
import struct
from typing import IO, TYPE_CHECKING, Iterator, Optional

from . import avi, matroska, mp4
from .header import VideoHeader

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["VideoHeader", "read_header", "walk"]

_READERS = (
    (lambda head: head[4:8] in mp4.FIRST_BOXES, mp4),
    (lambda head: head.startswith(matroska.MAGIC), matroska),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"AVI ", avi),
)
# What readers raise on damaged headers.
_DAMAGE = (ValueError, IndexError, KeyError, struct.error, OverflowError, ZeroDivisionError, OSError)


def _reader(stream: IO[bytes]) -> "Optional[ModuleType]":
    stream.seek(0)
    head = stream.read(12)
    return next((reader for is_it, reader in _READERS if is_it(head)), None)


def read_header(stream: IO[bytes], size: float) -> VideoHeader:
    """Return the VideoHeader in an open file of ``size`` bytes; an empty one for another container or a damaged header.

    The stream may hold fewer bytes than ``size``, as long as it holds the header.
    """
    reader = _reader(stream)
    if reader is None:
        return VideoHeader()
    try:
        header: VideoHeader = reader.read(stream, size)
        return header
    except _DAMAGE:
        return VideoHeader()


def walk(stream: IO[bytes], size: float) -> Iterator[Optional[float]]:
    """Yield the display time of each stored frame in seconds, in nearly ascending order; None for an empty step.

    Ends early if the file is damaged; yields nothing for an unknown container.
    """
    reader = _reader(stream)
    with contextlib.suppress(*_DAMAGE):
        if reader is not None:
            yield from reader.walk(stream, size)
