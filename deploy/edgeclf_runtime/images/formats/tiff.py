"""TIFF files: the first directory, by TIFF 6.0.

The decoder gets one directory, made of the first entry of each tag that a picture needs, in its usual type, so libtiff
and this parser cannot read it differently.  Every strip and tile must be complete.
"""

import struct
import zlib
from typing import Dict, FrozenSet, Iterator, Mapping, Optional, Sequence, Tuple

from . import exif, jpeg
from .picture import Picture, UnsupportedError, check_packing

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANES = 273, 274, 277, 278, 279, 284
_TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES, _SUBSAMPLING = 322, 323, 324, 325, 530
_EXTRA, _SAMPLE_FORMAT, _XMP = 338, 339, 700
_STRIP_TAGS, _TILE_TAGS = frozenset((_STRIPS, _ROWS, _STRIP_BYTES)), frozenset((_TILES, _TILE_BYTES))

_MAX_PIECES = 1 << 16
# Type: its letter in struct, and its bytes.
_TYPES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 5: ("Q", 8), 7: ("B", 1)}
_WHOLE, _SHORT, _RATIONAL, _BYTES = (1, 3, 4), (3,), (3, 4, 5), (1, 7)
# Tag: allowed types, and maximum number of values.
_TAGS = {
    _WIDTH: (_WHOLE, 1),
    _LENGTH: (_WHOLE, 1),
    _BITS: (_WHOLE, 4),
    _COMPRESSION: (_WHOLE, 1),
    _PHOTOMETRIC: (_WHOLE, 1),
    266: (_WHOLE, 1),  # FillOrder
    _STRIPS: (_WHOLE, _MAX_PIECES),
    _ORIENTATION: (_WHOLE, 1),
    _SAMPLES: (_WHOLE, 1),
    _ROWS: (_WHOLE, 1),
    _STRIP_BYTES: (_WHOLE, _MAX_PIECES),
    _PLANES: (_WHOLE, 1),
    292: (_WHOLE, 1),  # T4Options
    293: (_WHOLE, 1),  # T6Options
    317: (_WHOLE, 1),  # Predictor
    320: (_SHORT, 3 << 16),  # ColorMap
    _TILE_WIDTH: (_WHOLE, 1),
    _TILE_LENGTH: (_WHOLE, 1),
    _TILES: (_WHOLE, _MAX_PIECES),
    _TILE_BYTES: (_WHOLE, _MAX_PIECES),
    332: (_WHOLE, 1),  # InkSet
    _EXTRA: (_WHOLE, 4),
    _SAMPLE_FORMAT: (_WHOLE, 4),
    347: (_BYTES, 1 << 16),  # JPEGTables
    529: (_RATIONAL, 3),  # YCbCrCoefficients
    _SUBSAMPLING: (_WHOLE, 2),
    531: (_WHOLE, 1),  # YCbCrPositioning
    532: (_RATIONAL, 6),  # ReferenceBlackWhite
}
# MaxSampleValue and SMaxSampleValue, which no decoder needs: 4095 means that 12 of 16 bits are used.
_LARGEST = (281, 341)
_NONE, _JPEG, _DEFLATE, _SEPARATE, _PREMULTIPLIED = 1, 7, (8, 32946), 2, 1
# White is 0 or the largest value, RGB, palette, CMYK, YCbCr; what decoders read alike.
_YCBCR, _PALETTE, _PHOTOMETRICS = 6, 3, (0, 1, 2, 3, 5, 6)
_UNSIGNED, _UNDEFINED = 1, 4
# 2 to 4 are CCITT's, 5 is LZW, 32773 PackBits.  Old-style JPEG and what OpenCV is built without are left out.
_COMPRESSIONS = (_NONE, 2, 3, 4, 5, _JPEG, 32773) + _DEFLATE

_MAX_TILE_PIXELS = 1 << 24
_MAX_TILED_PIXELS = 100 * 1000 * 1000
_MAX_JPEGS = 1 << 13
# Allowed excess of all strips and tiles together over the file's size: some writers share the bytes of empty ones.
_MAX_SHARED_BYTES = 64 << 20


_Tags = Mapping[int, Tuple[int, ...]]


def read(data: bytes) -> Picture:
    """Return the Picture in a TIFF file's bytes."""
    order = "<" if data[:2] == b"II" else ">"
    entries = _entries(data, order)
    tags = {tag: _values(data, order, entry) for tag, entry in entries.items()}
    if _WIDTH not in tags or _LENGTH not in tags:
        raise ValueError("a TIFF without a size in its first directory")
    turned = tags[_ORIENTATION][0] if _ORIENTATION in tags else exif.orientation(None, _xmp(data, order))
    pieces = _Pieces(tags)

    def content() -> bytes:
        pieces.check(data)
        if _EXTRA in entries:
            # Otherwise libtiff multiplies the colors by the transparency.
            entries[_EXTRA] = struct.pack(order + "HHIHH", _EXTRA, 3, 1, _PREMULTIPLIED, 0)
        kept = sorted(entries.keys() - pieces.unused - {_ORIENTATION, _SAMPLE_FORMAT})
        return _with_directory(data, order, [entries[tag] for tag in kept])

    deep = tags.get(_BITS, (1,))[0] == 16
    return Picture(
        tags[_WIDTH][0],
        tags[_LENGTH][0],
        content,
        turned,
        deep,
        deep and _as_stored(tags),
        _bits(data, order),
        premultiplied=tags.get(_EXTRA, (0,))[0] == _PREMULTIPLIED,
    )


def _directory(data: bytes, order: str) -> Iterator[Tuple[int, int, int, int]]:
    """Yield each entry's tag, type, number of values, and position."""
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    for start in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI4x", data, start)
        yield tag, kind, values, start


def _entries(data: bytes, order: str) -> Dict[int, bytes]:
    """Return the first entry of each tag that a picture needs."""
    entries: Dict[int, bytes] = {}
    for tag, _, _, start in _directory(data, order):
        if tag in _TAGS:
            entries.setdefault(tag, data[start : start + 12])
    return entries


def _xmp(data: bytes, order: str) -> bytes:
    for tag, kind, length, start in _directory(data, order):
        if tag == _XMP and kind in _BYTES:
            (at,) = struct.unpack_from(order + "I", data, start + 8)
            return data[at : at + length]
    return b""


def _as_stored(tags: _Tags) -> bool:
    """Return whether 16-bit samples are gray or RGB as stored."""
    kinds = tags.get(_PHOTOMETRIC, (0,))[0], tags.get(_SAMPLES, (1,))[0]
    return kinds in ((1, 1), (2, 3)) and set(tags.get(_SAMPLE_FORMAT, (1,))) == {1}


def _bits(data: bytes, order: str) -> Optional[int]:
    """Return how many bits the samples use if the file's largest value says so (it is 2 ** bits - 1), else None."""
    for tag, kind, values, start in _directory(data, order):
        if tag in _LARGEST and kind in _SHORT and 1 <= values <= 4:
            offset = start + 8 if values <= 2 else struct.unpack_from(order + "I", data, start + 8)[0]
            if offset + 2 * values <= len(data):
                largest = max(struct.unpack_from("{}{}H".format(order, values), data, offset))
                bits = largest.bit_length()
                return bits if largest + 1 == 1 << bits and 8 <= bits < 16 else None
    return None


def _values(data: bytes, order: str, entry: bytes) -> Tuple[int, ...]:
    tag, kind, count = struct.unpack_from(order + "HHI", entry)
    kinds, most = _TAGS[tag]
    if kind not in kinds or count < 1 or count > most:
        raise ValueError("a TIFF whose tag {} has {} values of type {}".format(tag, count, kind))
    letter, size = _TYPES[kind]
    values = "{}{}{}".format(order, count, letter)
    if size * count <= 4:
        return struct.unpack_from(values, entry, 8)
    (at,) = struct.unpack_from(order + "I", entry, 8)
    if at + size * count > len(data):
        raise ValueError("the TIFF is truncated (tag {} is beyond its end)".format(tag))
    return struct.unpack_from(values, data, at)


class _Pieces:
    """The strips or tiles of a picture."""

    def __init__(self, tags: _Tags) -> None:
        def first(tag: int, default: Optional[int] = None) -> int:
            if tag in tags:
                return tags[tag][0]
            if default is None:
                raise ValueError("a TIFF without the tag {}".format(tag))
            return default

        self._width, self._height = first(_WIDTH), first(_LENGTH)
        self._bits, self._samples = first(_BITS, 1), first(_SAMPLES, 1)
        self._compression, self._photometric = first(_COMPRESSION, 1), first(_PHOTOMETRIC)
        self._formats = set(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)))
        self._premultiplied = first(_EXTRA, 0) == _PREMULTIPLIED
        self._planes = self._samples if first(_PLANES, 1) == _SEPARATE else 1
        self._subsampling = (tags.get(_SUBSAMPLING, ()) + (2, 2))[:2]
        self.tiled = _TILE_WIDTH in tags or _TILE_LENGTH in tags
        if self.tiled:
            self._across, self._down = first(_TILE_WIDTH), first(_TILE_LENGTH)
            self._offsets, self._bytes = tags.get(_TILES, ()), tags.get(_TILE_BYTES, ())
            self.unused: FrozenSet[int] = _STRIP_TAGS
        else:
            self._across, self._down = self._width, min(first(_ROWS, self._height), self._height)
            self._offsets, self._bytes = tags.get(_STRIPS, ()), tags.get(_STRIP_BYTES, ())
            self.unused = _TILE_TAGS

    def check(self, data: bytes) -> None:
        """Raise UnsupportedError for unsupported kinds, and ValueError for pieces that are too large, too many, missing or cut off."""
        if self._compression not in _COMPRESSIONS:
            raise UnsupportedError("a TIFF of compression {}; save it without compression".format(self._compression))
        if not 1 <= self._samples <= 4 or self._bits not in (1, 4, 8, 16):
            raise UnsupportedError(
                "a TIFF of {} samples of {} bits; 1 to 4 of 1, 4, 8 or 16 bits were expected, convert it".format(
                    self._samples, self._bits
                )
            )
        self._check_colors()
        check_packing(self._width * self._height * self._samples * self._bits // 8, len(data))
        count = self._count()
        if len(self._offsets) < count or len(self._bytes) < count:
            raise ValueError("a TIFF without all of its {} strips or tiles".format(count))
        if sum(self._bytes[:count]) > len(data) + _MAX_SHARED_BYTES:
            raise ValueError("the TIFF is truncated, or its strips or tiles overlap")
        ns = 0.0
        for number in range(count):
            start, length = self._offsets[number], self._bytes[number]
            if not length or start + length > len(data):
                raise ValueError("the TIFF is truncated (strip or tile {} is incomplete)".format(number))
            if self._compression == _JPEG:
                ns += self._jpeg_ns(data[start : start + length])
            else:
                self._check_length(memoryview(data)[start : start + length], number)
        jpeg.check_time(ns, len(data))

    def _check_colors(self) -> None:
        """Raise UnsupportedError for colors that OpenCV reads differently from other programs, or not at all."""
        if self._photometric not in _PHOTOMETRICS:
            raise UnsupportedError("a TIFF of color space {}; save it as gray or RGB".format(self._photometric))
        if self._formats - {_UNSIGNED, _UNDEFINED}:
            raise UnsupportedError("a TIFF of signed or floating-point samples; save it with 8 unsigned bits")
        if self._bits == 16 and self._planes > 1:
            raise UnsupportedError(
                "a TIFF of 16 bits whose colors are in separate planes; save it with 8, or interleaved"
            )
        if self._premultiplied and (self._samples, self._bits) != (4, 8):
            raise UnsupportedError("a TIFF of gray or 16 bits multiplied by its opacity; save it without transparency")
        if self._bits == 4 and self._photometric != _PALETTE:
            raise UnsupportedError("a TIFF of 4 bits per sample without a palette; save it with 8")

    def _count(self) -> int:
        if self._across < 1 or self._down < 1 or min(self._subsampling) < 1:
            raise ValueError("a TIFF of tiles or strips without pixels")
        columns, rows = -(-self._width // self._across), -(-self._height // self._down)
        pixels = self._across * self._down
        if self.tiled and (pixels > _MAX_TILE_PIXELS or pixels * columns * rows > _MAX_TILED_PIXELS):
            raise ValueError("a TIFF of tiles of {} x {}, which are too large".format(self._across, self._down))
        most = _MAX_JPEGS if self._compression == _JPEG else _MAX_PIECES
        if columns * rows * self._planes > most:
            raise ValueError("a TIFF of more than {} strips or tiles".format(most))
        return columns * rows * self._planes

    def _jpeg_ns(self, piece: bytes) -> float:
        stream = jpeg.Stream(piece)
        if stream.width > self._across or stream.height > self._down:
            raise ValueError("a TIFF with a JPEG that is larger than its strip or tile")
        return stream.ns

    def _check_length(self, piece: memoryview, number: int) -> None:
        """Raise ValueError if a piece is too short; libtiff would leave the rest black."""
        if self._compression != _NONE and self._compression not in _DEFLATE:
            return
        expected = self._expected_bytes(number)
        found = len(piece) if self._compression == _NONE else _inflated_bytes(piece, expected)
        if found < expected:
            raise ValueError(
                "the TIFF is damaged (strip or tile {} has {} of {} bytes)".format(number, found, expected)
            )

    def _expected_bytes(self, number: int) -> int:
        rows = self._down
        if not self.tiled:
            rows = min(rows, self._height - number % -(-self._height // self._down) * self._down)
        if self._photometric == _YCBCR and self._planes == 1:
            # Section 21: each unit of across x down brightness samples has one sample of each color.
            across, down = self._subsampling
            return -(-rows // down) * -(-self._across // across) * (across * down + 2)
        return rows * ((self._across * (self._samples // self._planes) * self._bits + 7) // 8)


def _inflated_bytes(piece: memoryview, enough: int) -> int:
    inflater, found = zlib.decompressobj(), 0
    try:
        for at in range(0, len(piece), 1 << 14):
            found += len(inflater.decompress(piece[at : at + (1 << 14)], enough - found))
            if found == enough:
                break
    except zlib.error:
        pass
    return found


def _with_directory(data: bytes, order: str, entries: "Sequence[bytes]") -> bytes:
    """Return a file's bytes with a single directory, at the end."""
    at = len(data) + len(data) % 2
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + b"\0\0\0\0"
    view = memoryview(data)
    return b"".join((view[:4], struct.pack(order + "I", at), view[8:], b"\0" * (at - len(data)), directory))
