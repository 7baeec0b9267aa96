"""PNG files: chunks by the PNG specification, third edition, section 5.

The decoder gets the header, the palette, the transparency and the pixels of the still picture: no text, profile or
animation.  libpng also inflates anything after the last row, a GB of zeros from one MB in 3 s.  So pixels of more than
192 KB are inflated here, up to the picture's size, and passed on as stored blocks.
"""

import struct
import zlib
from typing import Dict, Iterator, List, Optional, Tuple

from . import png_text
from .picture import Picture, check_packing

Span = Tuple[int, int]
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Color type: samples per pixel, and allowed bits per sample (table 11.1).
_COLORS = {0: (1, (1, 2, 4, 8, 16)), 2: (3, (8, 16)), 3: (1, (1, 2, 4, 8)), 4: (2, (8, 16)), 6: (4, (8, 16))}
# Adam7: first column and row of each pass, and the steps (section 8.1).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_MAX_CHUNKS = 100 * 1000
# Deflate expands a byte to at most 1032: these to 203 MB.
_SMALL_BYTES = 3 << 16
_INPUT_BYTES = 1 << 16


def read(data: bytes) -> Picture:
    """Return the Picture in a PNG file's bytes."""
    if data[12:16] != b"IHDR" or data[8:12] != b"\0\0\0\x0d":
        raise ValueError("a PNG that does not start with its header")
    width, height = struct.unpack_from(">II", data, 16)
    heads, pixels, turned, scaled_bits = _chosen_chunks(data)
    row_bytes = _raw_bytes(*struct.unpack_from(">IIBBBBB", data, 16))
    if not pixels:
        raise ValueError("a PNG without pixels")

    def content() -> bytearray:
        check_packing(row_bytes, len(data))
        rebuilt = bytearray(_SIGNATURE)
        small = sum(end - start for start, end in pixels) <= _SMALL_BYTES
        for start, end in heads + pixels if small else heads:
            rebuilt += data[start - 8 : end + 4]
        if not small:
            _store(data, pixels, row_bytes, rebuilt)
        rebuilt += _END
        return rebuilt

    deep = data[24] == 16
    return Picture(width, height, content, turned, deep, deep, scaled_bits=scaled_bits)


def _chosen_chunks(data: bytes) -> Tuple[List[Span], List[Span], int, Optional[int]]:
    """Return the needed chunks before the pixels, the pixels' chunks, the orientation, and sBIT's bits."""
    heads: Dict[bytes, Tuple[int, int]] = {}
    pixels: List[Tuple[int, int]] = []
    metadata = png_text.Metadata()
    bits: Optional[int] = None
    last = b""
    for kind, start, end in _chunks(data):
        if kind == b"IDAT":
            # Only consecutive IDAT chunks make up the picture.
            if not pixels or last == b"IDAT":
                pixels.append((start, end))
        elif kind in (b"IHDR", b"PLTE", b"tRNS"):
            if kind in heads:
                raise ValueError("a PNG with two {} chunks".format(kind.decode()))
            if pixels:
                raise ValueError("a PNG whose {} comes after its pixels".format(kind.decode()))
            heads[kind] = start, end
        elif kind in png_text.KINDS:
            metadata.add(kind, data[start:end])
        elif kind == b"sBIT" and not pixels:
            bits = _significant_bits(data[start:end], data[25])
        elif not kind[0] & 32 and kind not in _CRITICAL:
            raise ValueError("a PNG with the unknown critical chunk {!r}".format(kind.decode("latin-1")))
        last = kind
    return list(heads.values()), pixels, metadata.orientation(), bits


def _significant_bits(body: bytes, color: int) -> Optional[int]:
    """Return how many bits of gray, or of red, green and blue, are significant by a sBIT chunk; None if they differ."""
    bits = set(body[: 3 if color & 2 else 1])
    return bits.pop() if len(bits) == 1 else None


def _chunks(data: bytes) -> Iterator[Tuple[bytes, int, int]]:
    """Yield each chunk's kind and the position of its data; raises ValueError if the file ends before IEND."""
    at = len(_SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            raise ValueError("the PNG is truncated")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise ValueError("the PNG is truncated")
        yield kind, at + 8, end
        if kind == b"IEND":
            return
        at = end + 4
    raise ValueError("a PNG of more than {} chunks".format(_MAX_CHUNKS))


def _raw_bytes(width: int, height: int, bits: int, color: int, compression: int, filters: int, interlace: int) -> int:
    """Return how many bytes the pixels inflate to, including a filter byte before each row."""
    samples, depths = _COLORS.get(color, (0, ()))
    if bits not in depths or compression or filters or interlace > 1:
        raise ValueError("a PNG of an unknown kind (color type {}, {} bits)".format(color, bits))
    total = 0
    for left, top, across, down in _PASSES if interlace else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits * samples + 7) // 8)
    return total


def _store(data: bytes, pixels: List[Span], expected: int, rebuilt: bytearray) -> None:
    """Append the picture's bytes to a file's bytes, in chunks of stored blocks."""
    storer = zlib.compressobj(0)
    for raw in _inflated(data, pixels, expected):
        expected -= len(raw)
        _add_chunk(rebuilt, storer.compress(raw))
    if expected:
        raise ValueError("a PNG whose pixels are damaged ({} bytes are missing)".format(expected))
    _add_chunk(rebuilt, storer.flush())


def _inflated(data: bytes, pixels: List[Span], expected: int) -> Iterator[bytes]:
    """Yield this many bytes of a picture, or fewer if there are no more, in pieces."""
    inflater = zlib.decompressobj()
    joined = b"".join([_checked(data, start, end) for start, end in pixels])
    for at in range(0, len(joined), _INPUT_BYTES):
        try:
            raw = inflater.decompress(joined[at : at + _INPUT_BYTES], expected)
        except zlib.error as error:
            raise ValueError("a PNG whose pixels are damaged ({})".format(error))
        yield raw
        expected -= len(raw)
        if not expected:
            return


def _checked(data: bytes, start: int, end: int) -> bytes:
    if zlib.crc32(data[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
        raise ValueError("a PNG whose pixels are damaged (a checksum is wrong)")
    return data[start:end]


def _add_chunk(rebuilt: bytearray, body: bytes, kind: bytes = b"IDAT") -> None:
    if body:
        rebuilt += struct.pack(">I", len(body)) + kind
        rebuilt += body
        rebuilt += struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
