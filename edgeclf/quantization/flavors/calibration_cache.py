"""TensorRT's calibration cache: the ranges of activations as text that TensorRT 8 to 10 read.

The first line names TensorRT's version and the kind of calibrator; TensorRT ignores a cache
whose first line is not its own, so whoever passes it to TensorRT writes the version in use there.
Each further line is a tensor's name and its scale, float32 in big-endian hexadecimal; the scale
times 127 is the largest value.  Names may hold spaces and colons.
"""

from __future__ import annotations

import re
import struct

from ...errors import DataError
from ...graph.int8.ranges import Ranges

VERSION = 8502
"""TensorRT's version in the header: 8.5.2, of JetPack 5."""
_HEADER = re.compile(r"TRT-\d+-EntropyCalibration2")
_SMALLEST = 1e-9  # for a tensor that is 0 in every image; TensorRT refuses a scale of 0


def format_cache(ranges: Ranges, version: int = VERSION) -> str:
    """Return a cache's text, from the range of every activation."""
    scales = {name: max(-low / 127, high / 127, _SMALLEST) for name, (low, high) in sorted(ranges.items())}
    lines = [f"{name}: {struct.pack('!f', scale).hex()}" for name, scale in scales.items()]
    return "\n".join([f"TRT-{version}-EntropyCalibration2", *lines]) + "\n"


def parse_cache(text: str) -> dict[str, float]:
    """Return the scales of a cache by the tensors' names; DataError if the text is not a cache."""
    header, *lines = text.splitlines() or [""]
    if not _HEADER.fullmatch(header):
        raise DataError(f"a calibration cache begins with {header[:60]!r}; TRT-8502-EntropyCalibration2 was expected")
    scales = {}
    for number, line in enumerate(lines, 2):
        name, colon, digits = line.rpartition(": ")
        if not colon or not re.fullmatch("[0-9a-f]{8}", digits):
            raise DataError(
                f"line {number} of a calibration cache is {line[:60]!r}; NAME: 8 hexadecimal digits expected"
            )
        scales[name] = struct.unpack("!f", bytes.fromhex(digits))[0]
    return scales
