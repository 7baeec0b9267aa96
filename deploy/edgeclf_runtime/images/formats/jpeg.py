"""JPEG files: markers by ITU-T T.81, read in libjpeg's order and with its leniency.

Comments, thumbnails, profiles and anything after the picture are not passed to the decoder.
"""

import re
import struct
from typing import Dict, Iterable, Iterator, List, Optional, Tuple, Union

from . import exif
from .picture import Picture

# Table B.1.  0x01 and 0xD0 to 0xD7 have no length, and 0xFF00 is a data byte.  libjpeg skips anything but markers.
_MARKER = re.compile(b"\xff([\xc0-\xcf\xd8-\xfe])")
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_PROGRESSIVE, _ARITHMETIC, _LOSSLESS = frozenset((0xC2, 0xCA)), frozenset((0xC9, 0xCA)), 0xC3
# Tables, and the two segments that tell libjpeg the color space: JFIF's APP0 and Adobe's APP14.
_KEPT = frozenset((0xC4, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE))
# What the two kinds of APP1 segments begin with.
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"

# 4000 segments can hold 256 MB of profiles and thumbnails.
_MAX_SEGMENTS = 4096
_MAX_SCANS = 512
# Every scan visits all blocks of 8 x 8 samples of its components, however few bytes it has.  Rough costs per block in
# nanoseconds: of a scan without data, of each coefficient that is refined or decoded arithmetically, and of a
# progressive file's block at the end.  libjpeg's own progressive scripts stay within the limits at any size that is read.
_BLOCK_NS, _COEFFICIENT_NS, _PROGRESSIVE_BLOCK_NS = 10, 1, 80
_ARITHMETIC_BLOCK_NS, _ARITHMETIC_COEFFICIENT_NS, _LOSSLESS_BLOCK_NS = 100, 4, 130
_MAX_NS, _MAX_NS_PER_BYTE = 500 * 1000 * 1000, 50


def read(data: bytes) -> Picture:
    """Return the Picture in a JPEG file's bytes."""
    stream = Stream(data)
    check_time(stream.ns, len(data))
    return Picture(stream.width, stream.height, stream.rebuilt, stream.orientation, cmyk=stream.components == 4)


def check_time(ns: float, file_bytes: int) -> None:
    """Raise ValueError if a file's scans take too many nanoseconds for its size."""
    if ns > _MAX_NS + _MAX_NS_PER_BYTE * file_bytes:
        raise ValueError("a JPEG with too many scans for its {:.2f} MB".format(file_bytes / 1e6))


class Stream:
    """A JPEG stream up to the end of its first picture.

    width, height   from its frame header
    components      from its frame header: 1 is gray, 3 color, 4 CMYK
    orientation     from EXIF or XMP, 1 if there is none
    ns              roughly how long its scans take
    """

    def __init__(self, data: bytes) -> None:
        # Views, so that the data are copied only once.
        self.orientation, self._data, self._view = 1, data, memoryview(data)
        self._parts: List[Union[bytes, memoryview]] = [b"\xff\xd8"]
        frame, start, at = self._read_header()
        # In entropy-coded data, 0xFF is always followed by 0x00 or a restart marker, so the first 0xFFD9 after the
        # scan header ends the image.
        if data.find(b"\xff\xd9", at) < 0:
            raise ValueError("the JPEG is truncated (it has no end marker)")
        self.width, self.height, self.components = frame.width, frame.height, frame.components
        self.ns = frame.ns() + frame.scan_ns(data[start + 4 : at])
        if frame.progressive or not frame.covers(data[start + 4 : at]):
            self._read_scans(frame, start, at)
        else:
            # libjpeg reads one scan and stops at the first marker after it.
            end = _MARKER.search(data, at)
            self._parts.append(self._view[start : end.start() if end else None])
        self._parts.append(b"\xff\xd9")

    def rebuilt(self) -> bytes:
        """Return the bytes of a JPEG file that holds only this picture."""
        return b"".join(self._parts)

    def _read_header(self) -> "Tuple[_Frame, int, int]":
        """Read everything before the first scan; return the frame and the start and end of the scan's header."""
        frame: Optional[_Frame] = None
        metadata: Dict[bytes, bytes] = {}
        for marker, start, at in _segments(self._data):
            if marker == _SOS and frame is not None:
                self.orientation = exif.orientation(metadata.get(_EXIF), metadata.get(_XMP))
                return frame, start, at
            if marker in _FRAMES and frame is not None:
                raise ValueError("a JPEG with two sizes in its header")
            if marker in _FRAMES:
                frame = _Frame(marker, self._data[start + 4 : at])
            if marker in _FRAMES or marker in _KEPT:
                self._parts.append(self._view[start:at])
            for kind in (_EXIF, _XMP) if marker == _APP1 else ():
                if self._data.startswith(kind, start + 4):
                    metadata.setdefault(kind, self._data[start + 4 + len(kind) : at])
        raise ValueError("a JPEG without a size in its header" if frame is None else "a JPEG without a picture")

    def _read_scans(self, frame: "_Frame", start: Optional[int], at: int) -> None:
        """Read from the first scan, whose header is data[start:at], to the end of the picture."""
        scans = 1
        for marker, begin, end in _segments(self._data, at):
            if start is not None:
                # A scan's data continue until the next segment.
                self._parts.append(self._view[start:begin])
                start = None
            if marker == _SOS:
                start, scans = begin, scans + 1
                self.ns += frame.scan_ns(self._data[begin + 4 : end])
            elif marker in _FRAMES or marker == _SOI:
                raise ValueError("a JPEG with two sizes in its header")
            elif marker in _KEPT:
                self._parts.append(self._view[begin:end])
        if scans > _MAX_SCANS:
            raise ValueError("a JPEG of {} scans; at most {} were expected".format(scans, _MAX_SCANS))


def _segments(data: bytes, at: int = 2) -> Iterator[Tuple[int, int, int]]:
    """Yield each segment's marker, start and end, up to an end marker or a second start marker."""
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None:
            raise ValueError("the JPEG is truncated (it has no end marker)")
        marker, start = data[found.start() + 1], found.start()
        if marker in (_SOI, _EOI):
            yield marker, start, start + 2
            return
        (length,) = struct.unpack_from(">H", data, start + 2)
        at = start + 2 + length
        if length < 2 or at > len(data):
            raise ValueError("a JPEG with a damaged header")
        yield marker, start, at
    raise ValueError("a JPEG of more than {} segments".format(_MAX_SEGMENTS))


class _Frame:
    """A frame header, B.2.2: the size and the components."""

    def __init__(self, marker: int, data: bytes) -> None:
        self.height, self.width, count = struct.unpack_from(">xHHB", data)
        self.progressive, self._marker, self.components = marker in _PROGRESSIVE, marker, count
        self._shares: Dict[int, int] = {}
        if len(data) != 6 + 3 * count or not count:
            raise ValueError("a JPEG with a damaged header")
        for at in range(6, len(data), 3):
            across, down = data[at + 1] >> 4, data[at + 1] & 15
            if not (1 <= across <= 4 and 1 <= down <= 4) or data[at] in self._shares:
                raise ValueError("a JPEG with a damaged header")
            self._shares[data[at]] = across * down

    def covers(self, scan: bytes) -> bool:
        """Return whether a scan header names every component."""
        return scan[0] == len(self._shares)

    def ns(self) -> float:
        """Return roughly how many nanoseconds the picture takes after its scans are read."""
        return self._blocks(self._shares) * _PROGRESSIVE_BLOCK_NS if self.progressive else 0

    def scan_ns(self, scan: bytes) -> float:
        """Return roughly how many nanoseconds a scan takes in addition to its data, B.2.3."""
        if len(scan) != 4 + 2 * scan[0] or scan[0] < 1:
            raise ValueError("a JPEG with a damaged header")
        first, last, bits = scan[-3:]
        band = max(0, last - first + 1) if self.progressive and first else 0
        ns = _BLOCK_NS + (band * _COEFFICIENT_NS if bits >> 4 else 0)
        if self._marker in _ARITHMETIC:
            ns = _ARITHMETIC_BLOCK_NS + band * _ARITHMETIC_COEFFICIENT_NS
        elif self._marker == _LOSSLESS:
            ns = _LOSSLESS_BLOCK_NS
        return self._blocks(scan[1:-3:2]) * ns

    def _blocks(self, components: Iterable[int]) -> float:
        share = sum(self._shares.get(each, 0) for each in components) / max(self._shares.values())
        return -(-self.width // 8) * -(-self.height // 8) * share
