"""Writes fragmented MP4 with Motion JPEG, if there is no H.264 encoder: desktop players play it, browsers do not.

Each frame is a fragment, so the file plays up to its last whole frame no matter how its writer ended.
ISO/IEC 14496-12 (boxes), 14496-1 (descriptors).
"""

import struct
from typing import IO, Tuple, Union

from .avi import encode

__all__ = ["Mp4", "encode"]
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_JPEG = 0x6C  # JPEG in an MPEG-4 descriptor


class Mp4:
    """Writes encoded frames to a seekable binary stream; same arguments as WebM."""

    def __init__(self, stream: IO[bytes], size: Tuple[int, int], fps: float) -> None:
        self._stream, self._frames = stream, 0
        ticks = round(1000 * fps)  # per second; a frame lasts 1000 of them
        stream.write(
            _box(b"ftyp", b"isom", 512, b"isomiso5mp41") + _box(b"moov", _mvhd(ticks), _track(size, ticks), _mvex())
        )
        self._duration_at = stream.tell() - 8

    def add(self, data: bytes) -> None:
        """Append a frame."""
        header = _full(b"mfhd", 0, 0, self._frames + 1)
        track = _full(b"tfhd", 0, 0x020000, 1) + _full(b"tfdt", 1, 0, struct.pack(">Q", 1000 * self._frames))
        size = len(header) + len(track) + 40  # of moof, with its own header, traf's, and trun
        trun = _full(b"trun", 0, 0x201, 1, size + 8, len(data))
        self._stream.write(_box(b"moof", header, _box(b"traf", track, trun)) + _box(b"mdat", data))
        self._frames += 1

    def update(self) -> None:
        """Update the header, so that players know how long the file is."""
        end = self._stream.tell()
        self._stream.seek(self._duration_at)
        self._stream.write(struct.pack(">Q", 1000 * self._frames))
        self._stream.seek(end)

    finish = update


def _mvhd(ticks: int) -> bytes:
    return _full(b"mvhd", 0, 0, 0, 0, ticks, 0, 0x10000, 0x01000000, bytes(8), _MATRIX, bytes(24), 2)


def _track(size: Tuple[int, int], ticks: int) -> bytes:
    width, height = size
    tkhd = _full(b"tkhd", 0, 3, 0, 0, 1, 0, 0, bytes(16), _MATRIX, width << 16, height << 16)
    mdhd = _full(b"mdhd", 0, 0, 0, 0, ticks, 0, 0x55C40000)
    handler = _full(b"hdlr", 0, 0, 0, b"vide", bytes(12), b"edgeclf\0")
    data = _box(b"dinf", _full(b"dref", 0, 0, 1, _full(b"url ", 0, 1)))
    empty = [_full(kind, 0, 0, 0) for kind in (b"stts", b"stsc", b"stco")] + [_full(b"stsz", 0, 0, 0, 0)]
    table = _box(b"stbl", _full(b"stsd", 0, 0, 1, _sample_entry(width, height)), *empty)
    media = _box(b"minf", _full(b"vmhd", 0, 1, bytes(8)), data, table)
    return _box(b"trak", tkhd, _box(b"mdia", mdhd, handler, media))


def _sample_entry(width: int, height: int) -> bytes:
    # Each descriptor begins with its kind and its size: the stream's, its decoder's, its packets'.
    decoder = struct.pack(">BBBB", 0x04, 13, _JPEG, 0x11) + bytes(11)
    stream = struct.pack(">BBHB", 0x03, 3 + len(decoder) + 3, 1, 0) + decoder + b"\x06\x01\x02"
    shape = struct.pack(">HHIIIH", width, height, 0x480000, 0x480000, 0, 1)
    return _box(
        b"mp4v", bytes(6), b"\0\1", bytes(16), shape, bytes(32), b"\0\x18\xff\xff", _full(b"esds", 0, 0, stream)
    )


def _mvex() -> bytes:
    # Every frame of the track lasts 1000 ticks and depends on no other.
    return _box(b"mvex", _full(b"trex", 0, 0, 1, 1, 1000, 0, 0x02000000), _full(b"mehd", 1, 0, bytes(8)))


def _box(kind: bytes, *parts: Union[bytes, int]) -> bytes:
    """Return a box of bytes and of 32-bit numbers."""
    data = b"".join(part if isinstance(part, bytes) else struct.pack(">I", part) for part in parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def _full(kind: bytes, version: int, flags: int, *parts: Union[bytes, int]) -> bytes:
    return _box(kind, version << 24 | flags, *parts)
