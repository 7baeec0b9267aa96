"""Writes AVI with Motion JPEG: cheap to encode with any OpenCV; desktop players play it, browsers do not.

The number of frames and the total size are written at the end.
"""

import struct
from typing import IO, TYPE_CHECKING, List, Tuple

from ...images.jpeg import encode_jpeg

if TYPE_CHECKING:
    import numpy as np

# A part (RIFF chunk) of the file; more follow it, as "AVIX" (OpenDML AVI 1.02).
MOST_BYTES = 1 << 30
_KEY_FRAME = 0x10


def encode(image: "np.ndarray") -> bytes:
    """Return BGR pixels as a JPEG image."""
    return encode_jpeg(image)


class Avi:
    """Writes encoded frames to a seekable binary stream; same arguments as WebM."""

    def __init__(self, stream: IO[bytes], size: Tuple[int, int], fps: float) -> None:
        self._stream, self._size, self._fps = stream, size, fps
        self._frames = 0
        self._index: List[bytes] = []
        self._begin_part(b"AVI ", self._lists())

    def _begin_part(self, kind: bytes, lists: bytes = b"") -> None:
        self._part = self._stream.tell()
        self._stream.write(b"RIFF\0\0\0\0" + kind + lists + b"LIST\0\0\0\0movi")
        self._movi = self._stream.tell() - 4

    def _lists(self) -> bytes:
        """Return the lists that describe the stream."""
        size, jpeg = self._size, b"MJPG"
        frame_us, rate = round(1e6 / self._fps), round(1000 * self._fps)
        avih = struct.pack("<14I", frame_us, 0, 0, _KEY_FRAME, self._frames, 0, 1, 0, *size, 0, 0, 0, 0)
        strh = struct.pack(
            "<4s4s10I4H", b"vids", jpeg, 0, 0, 0, 1000, rate, 0, self._frames, 0, 0xFFFFFFFF, 0, 0, 0, *size
        )
        strf = struct.pack("<3I2H4s5I", 40, *size, 1, 24, jpeg, size[0] * size[1] * 3, 0, 0, 0, 0)
        stream = _chunk(b"LIST", b"strl" + _chunk(b"strh", strh) + _chunk(b"strf", strf))
        return _chunk(b"LIST", b"hdrl" + _chunk(b"avih", avih) + stream)

    def add(self, data: bytes) -> None:
        """Append a frame."""
        if self._stream.tell() - self._part > MOST_BYTES - len(data):
            self._end_part()
            self._begin_part(b"AVIX")
        if not self._part:
            self._index.append(struct.pack("<4s3I", b"00dc", _KEY_FRAME, self._stream.tell() - self._movi, len(data)))
        self._stream.write(_chunk(b"00dc", data))
        self._frames += 1

    def update(self) -> None:
        """Do nothing: some players stop at a number in the header, but read to the end if it is 0."""

    def _write_at(self, at: int, data: bytes) -> None:
        end = self._stream.tell()
        self._stream.seek(at)
        self._stream.write(data)
        self._stream.seek(end)

    def _end_part(self) -> None:
        self._write_at(self._movi - 4, struct.pack("<I", self._stream.tell() - self._movi))
        if not self._part:
            self._stream.write(_chunk(b"idx1", b"".join(self._index)))  # makes seeking fast
        self._write_at(self._part + 4, struct.pack("<I", self._stream.tell() - self._part - 8))

    def finish(self) -> None:
        """Write what is known only at the end."""
        self._end_part()
        self._write_at(12, self._lists())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
