"""JPEG files: markers by ITU-T T.81, read in the order and with the leniency of libjpeg.

Comments, thumbnails, profiles and whatever follows the picture are left out of what is decoded.
"""

import re
import struct
from typing import Dict, List, Union

from . import exif
from .picture import Picture

# Table B.1.  0x01 and 0xD0 to 0xD7 have no length, and 0xFF00 is a byte of data.  libjpeg skips what is not a marker.
_MARKER = re.compile(b"\xff([\xc0-\xcf\xd8-\xfe])")
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_PROGRESSIVE, _ARITHMETIC, _LOSSLESS = frozenset((0xC2, 0xCA)), frozenset((0xC9, 0xCA)), 0xC3
# Tables, and the two segments that tell libjpeg of the colors: JFIF's APP0 and Adobe's APP14.
_KEPT = frozenset((0xC4, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE))

# 4000 segments hold 256 MB of profiles and thumbnails.
_MAX_SEGMENTS = 4096
_MAX_SCANS = 512
# Every scan goes through all blocks of 8 x 8 samples of its components, however few bytes it has.  Counted in
# nanoseconds, roughly, of a block: those of a scan without data, those of each coefficient that is refined or decoded
# arithmetically, and those of a block of a progressive file at the end.  libjpeg's own script for progressive files has
# 10 scans, which take 0.5 s of 50 megapixels without subsampling, CMYK's 18 take 0.8.
_BLOCK_NS, _COEFFICIENT_NS, _PROGRESSIVE_BLOCK_NS = 10, 1, 80
_ARITHMETIC_BLOCK_NS, _ARITHMETIC_COEFFICIENT_NS, _LOSSLESS_BLOCK_NS = 100, 4, 130
_MAX_NS, _MAX_NS_PER_BYTE = 500 * 1000 * 1000, 50


def read(data):
    """Return the Picture in a JPEG file's bytes."""
    stream = Stream(data)
    check_time(stream.ns, len(data))
    return Picture(stream.width, stream.height, stream.rebuilt, stream.orientation)


def check_time(ns, file_bytes):
    """Raise ValueError if a file's scans take so many nanoseconds although it is small."""
    if ns > _MAX_NS + _MAX_NS_PER_BYTE * file_bytes:
        raise ValueError("a JPEG of too many scans for its {:.2f} MB".format(file_bytes / 1e6))


class Stream:
    """A JPEG stream up to the end of its first picture.

    width, height   as its frame header says
    orientation     by EXIF, 1 if there is none
    ns              roughly how long its scans take
    """

    def __init__(self, data):
        # Views of the data, so that they are copied once.
        self.orientation, self._data, self._view = 1, data, memoryview(data)
        self._parts: List[Union[bytes, memoryview]] = [b"\xff\xd8"]
        frame, start, at = self._read_header()
        # Inside entropy-coded data 0xFF is always followed by 0x00 or a restart marker, so the
        # first 0xFFD9 behind the scan header is the end of the image.
        if data.find(b"\xff\xd9", at) < 0:
            raise ValueError("the JPEG is truncated (it has no end marker)")
        self.width, self.height = frame.width, frame.height
        self.ns = frame.ns() + frame.scan_ns(data[start + 4 : at])
        if frame.progressive or not frame.covers(data[start + 4 : at]):
            self._read_scans(frame, start, at)
        else:
            # libjpeg reads one scan and stops at the first marker behind it.
            end = _MARKER.search(data, at)
            self._parts.append(self._view[start : end.start() if end else None])
        self._parts.append(b"\xff\xd9")

    def rebuilt(self):
        """Return the bytes of a JPEG file with this picture and nothing else."""
        return b"".join(self._parts)

    def _read_header(self):
        """Read what comes before the first scan; returns the frame, and where the scan's header starts and ends."""
        frame, found_exif = None, False
        for marker, start, at in _segments(self._data):
            if marker == _SOS and frame is not None:
                return frame, start, at
            if marker in _FRAMES and frame is not None:
                raise ValueError("a JPEG with two sizes in its header")
            if marker in _FRAMES:
                frame = _Frame(marker, self._data[start + 4 : at])
            if marker in _FRAMES or marker in _KEPT:
                self._parts.append(self._view[start:at])
            if marker == _APP1 and not found_exif and self._data[start + 4 : start + 10] == b"Exif\0\0":
                self.orientation, found_exif = exif.orientation(self._data[start + 10 : at]), True
        raise ValueError("a JPEG without a size in its header" if frame is None else "a JPEG without a picture")

    def _read_scans(self, frame, start, at):
        """Read from the first scan, whose header is data[start:at], to the end of the picture."""
        scans = 1
        for marker, begin, end in _segments(self._data, at):
            if start is not None:
                # A scan's data go on to the next segment.
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
            raise ValueError("a JPEG of {} scans; {} were expected at most".format(scans, _MAX_SCANS))


def _segments(data, at=2):
    """Yield the marker, the start and the end of each segment up to the first that is none (an end or a second start)."""
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

    def __init__(self, marker, data):
        self.height, self.width, count = struct.unpack_from(">xHHB", data)
        self.progressive, self._marker = marker in _PROGRESSIVE, marker
        self._shares: Dict[int, int] = {}
        if len(data) != 6 + 3 * count or not count:
            raise ValueError("a JPEG with a damaged header")
        for at in range(6, len(data), 3):
            across, down = data[at + 1] >> 4, data[at + 1] & 15
            if not (1 <= across <= 4 and 1 <= down <= 4) or data[at] in self._shares:
                raise ValueError("a JPEG with a damaged header")
            self._shares[data[at]] = across * down

    def covers(self, scan):
        """Whether a scan header names every component."""
        return scan[0] == len(self._shares)

    def ns(self):
        """Return roughly how many nanoseconds the picture takes when its scans are read."""
        return self._blocks(self._shares) * _PROGRESSIVE_BLOCK_NS if self.progressive else 0

    def scan_ns(self, scan):
        """Return roughly how many nanoseconds a scan takes besides its data's, B.2.3."""
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

    def _blocks(self, components):
        share = sum(self._shares.get(each, 0) for each in components) / max(self._shares.values())
        return -(-self.width // 8) * -(-self.height // 8) * share
