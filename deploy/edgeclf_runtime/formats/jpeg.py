"""JPEG files: markers by ITU-T T.81, read in the order and with the leniency of libjpeg.

Comments, thumbnails, profiles and whatever follows the picture are left out of what is decoded.
"""

import re
import struct
from typing import Dict

from . import exif
from .picture import Picture

# Table B.1.  0x01 and 0xD0 to 0xD7 have no length, and 0xFF00 is a byte of data.  libjpeg skips what is not a marker.
_MARKER = re.compile(b"\xff([\xc0-\xcf\xd8-\xfe])")
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_PROGRESSIVE = frozenset((0xC2, 0xCA))
# Tables, and the two segments that tell libjpeg of the colors: JFIF's APP0 and Adobe's APP14.
_KEPT = frozenset((0xC4, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE))

# 4000 segments hold 256 MB of profiles and thumbnails.
_MAX_SEGMENTS = 4096
# Every scan goes through the whole picture, however few bytes it has.  libjpeg's own script for progressive files has 10
# scans (18 for CMYK), which cover each pixel 14 (24) times: 1.2e9 samples of 48 megapixels in CMYK.
_MAX_SCANS = 512
_MAX_SCANNED_SAMPLES = 1200 * 1000 * 1000


def read(data):
    """Return the Picture in a JPEG file's bytes."""
    frame, kept, turned, at = None, [data[:2]], None, 2
    for marker, start, at in _segments(data):
        if marker in _FRAMES:
            if frame is not None:
                raise ValueError("a JPEG with two sizes in its header")
            frame = _Frame(marker, data[start + 4 : at])
        if marker == _APP1 and turned is None and data[start + 4 : start + 10] == b"Exif\0\0":
            turned = exif.orientation(data[start + 10 : at])
        if marker in _KEPT or marker in _FRAMES:
            kept.append(data[start:at])
        if marker == _SOS:
            break
    if frame is None or marker != _SOS:
        raise ValueError("a JPEG without a size in its header" if frame is None else "a JPEG without a picture")
    # Inside entropy-coded data 0xFF is always followed by 0x00 or a restart marker, so the
    # first 0xFFD9 behind the scan header is the end of the image.
    if data.find(b"\xff\xd9", at) < 0:
        raise ValueError("the JPEG is truncated (it has no end marker)")
    kept += _scans(data, frame, start, at)
    return Picture(frame.width, frame.height, lambda: b"".join(kept), 1 if turned is None else turned)


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


def _scans(data, frame, start, at):
    """Return the parts of a file from its first scan, whose header is data[start:at], to the end of its picture."""
    samples = frame.samples(data[start + 4 : at])
    if not frame.in_scans and frame.covers(data[start + 4 : at]):
        # libjpeg reads one scan and stops at the first marker behind it.
        end = _MARKER.search(data, at)
        return [data[start : end.start() if end else None], b"\xff\xd9"]
    return _many_scans(data, frame, start, at, samples)


def _many_scans(data, frame, start, at, samples):
    parts, scans = [], 1
    for marker, begin, end in _segments(data, at):
        if start is not None:
            parts.append(data[start:begin])
            start = None
        if marker in _FRAMES or marker == _SOI:
            raise ValueError("a JPEG with two sizes in its header")
        if marker == _SOS:
            start, scans = begin, scans + 1
            samples += frame.samples(data[begin + 4 : end])
        elif marker in _KEPT:
            parts.append(data[begin:end])
        if scans > _MAX_SCANS or samples > _MAX_SCANNED_SAMPLES:
            raise ValueError(
                "a JPEG of too many scans ({} so far; {} were expected at most, and fewer of a large picture)".format(
                    scans, _MAX_SCANS
                )
            )
    return parts + [b"\xff\xd9"]


class _Frame:
    """A frame header, B.2.2: the size and the components."""

    def __init__(self, marker, data):
        self.height, self.width, count = struct.unpack_from(">xHHB", data)
        self.in_scans = marker in _PROGRESSIVE
        self._shares: Dict[int, int] = {}
        if len(data) != 6 + 3 * count or not count:
            raise ValueError("a JPEG with a damaged header")
        for at in range(6, len(data), 3):
            across, down = data[at + 1] >> 4, data[at + 1] & 15
            if not (1 <= across <= 4 and 1 <= down <= 4) or data[at] in self._shares:
                raise ValueError("a JPEG with a damaged header")
            self._shares[data[at]] = across * down
        self._full = max(self._shares.values())

    def covers(self, scan):
        """Whether a scan header names every component."""
        return scan[0] == len(self._shares)

    def samples(self, scan):
        """Return how many samples a scan goes through, B.2.3."""
        if len(scan) != 4 + 2 * scan[0] or scan[0] < 1:
            raise ValueError("a JPEG with a damaged header")
        shares = (self._shares.get(each, 0) for each in scan[1 : 1 + 2 * scan[0] : 2])
        return sum(self.width * self.height * share // self._full for share in shares)
