"""Films as their containers describe them: what OpenCV does not tell, or tells differently by version.

A module for each family of containers has ``read``, which takes an open file and returns a Film, and ``walk``, which
goes through the whole file.  They read headers and never pictures, seek over everything else, and take a bounded number
of steps, whatever the file says.  Knows nothing of OpenCV.
"""

import contextlib
import struct

from . import avi, matroska, mp4
from .film import Film

__all__ = ["Film", "read_film", "walk"]

_READERS = (
    (lambda head: head[4:8] in mp4.FIRST_BOXES, mp4),
    (lambda head: head.startswith(matroska.MAGIC), matroska),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"AVI ", avi),
)
# What a damaged header makes a reader raise.
_DAMAGE = (ValueError, IndexError, KeyError, struct.error, OverflowError, ZeroDivisionError, OSError)


def _reader(stream):
    stream.seek(0)
    head = stream.read(12)
    return next((reader for is_it, reader in _READERS if is_it(head)), None)


def read_film(stream, size):
    """Return the Film in an open file of ``size`` bytes; of another container, or of a damaged header, one that says nothing.

    The stream may hold fewer bytes than ``size``, if it holds the header.
    """
    reader = _reader(stream)
    if reader is None:
        return Film()
    try:
        return reader.read(stream, size)
    except _DAMAGE:
        return Film()


def walk(stream, size):
    """Yield the seconds at which each stored frame is shown, as the file stores them: nearly in order; None for an empty step.

    Ends where the file is damaged; yields nothing for a container that does not say.
    """
    reader = _reader(stream)
    with contextlib.suppress(*_DAMAGE):
        if reader is not None:
            yield from reader.walk(stream, size)
