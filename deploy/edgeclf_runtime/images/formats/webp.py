"""WebP files: the RIFF container, VP8 and VP8L by RFC 9649.

The decoder gets one bitstream: of an animation, the first frame; of a lossy picture, not the transparency, which
changes no color.
"""

import struct
from typing import Dict, Tuple

from . import exif
from .picture import Picture

# OpenCV does not recognize a shorter file as WebP.
_LEAST_BYTES = 32
_MAX_CHUNKS = 10 * 1000


def read(data: bytes) -> Picture:
    """Return the Picture in a WebP file's bytes."""
    (length,) = struct.unpack_from("<I", data, 4)
    if data[8:12] != b"WEBP":
        raise ValueError("a RIFF file that is not WebP")
    if len(data) < length + 8:
        raise ValueError("the WebP is truncated")
    chunks = _first_chunks(data, 12, length + 8)
    kind, start, end = _bitstream(data, chunks)
    size = _SIZES[kind](data, start)
    if b"VP8X" in chunks:
        at = chunks[b"VP8X"][0]
        canvas = _uint24(data, at + 4) + 1, _uint24(data, at + 7) + 1
        if size != canvas:
            raise ValueError("a WebP of {} x {} pixels whose (first) picture is {} x {}".format(*(canvas + size)))
    metadata = (data[slice(*chunks[kind])] if kind in chunks else None for kind in (b"EXIF", b"XMP "))
    turned = exif.orientation(*metadata)
    return Picture(size[0], size[1], lambda: _still(kind, data[start:end]), turned)


def _first_chunks(data: bytes, at: int, limit: int) -> Dict[bytes, Tuple[int, int]]:
    """Return the positions of the data of each kind's first chunk."""
    chunks: Dict[bytes, Tuple[int, int]] = {}
    for _ in range(_MAX_CHUNKS):
        if at + 8 > limit:
            return chunks
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > limit:
            raise ValueError("the WebP is truncated")
        chunks.setdefault(kind, (at + 8, at + 8 + length))
        at += 8 + length + length % 2
    raise ValueError("a WebP of more than {} chunks".format(_MAX_CHUNKS))


def _bitstream(data: bytes, chunks: Dict[bytes, Tuple[int, int]]) -> Tuple[bytes, int, int]:
    """Return the kind and the position of the picture's bitstream."""
    if b"ANMF" in chunks:
        start, end = chunks[b"ANMF"]
        # Position, size, duration and flags come before the frame's own chunks.
        chunks = _first_chunks(data, start + 16, end)
    found = [(kind,) + chunks[kind] for kind in _SIZES if kind in chunks]
    if len(found) != 1:
        raise ValueError("a WebP without a picture" if not found else "a WebP with two pictures")
    return found[0]


def _vp8_size(data: bytes, at: int) -> Tuple[int, int]:
    # A frame tag whose lowest bit is 0 in a key frame, a start code, and 14 bits for each side: RFC 6386, section 9.1.
    if data[at] & 1 or data[at + 3 : at + 6] != b"\x9d\x01\x2a":
        raise ValueError("a WebP with a damaged header")
    width, height = struct.unpack_from("<HH", data, at + 6)
    return width & 0x3FFF, height & 0x3FFF


def _vp8l_size(data: bytes, at: int) -> Tuple[int, int]:
    if data[at] != 0x2F:
        raise ValueError("a WebP with a damaged header")
    (bits,) = struct.unpack_from("<I", data, at + 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _uint24(data: bytes, at: int) -> int:
    return data[at] | data[at + 1] << 8 | data[at + 2] << 16


def _still(kind: bytes, bitstream: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(bitstream)) + bitstream + b"\0" * (len(bitstream) % 2)
    return (b"RIFF" + struct.pack("<I", len(body)) + body).ljust(_LEAST_BYTES, b"\0")


_SIZES = {b"VP8 ": _vp8_size, b"VP8L": _vp8l_size}
