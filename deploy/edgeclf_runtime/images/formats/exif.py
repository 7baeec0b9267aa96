"""A photograph's orientation: by EXIF, or by XMP where EXIF does not give it, as Pillow reads it."""

import re
import struct
from typing import Optional

_ORIENTATION, _SHORT, _LONG = 274, 3, 4
_FLAG = b"Exif\0\0"
_XMP = re.compile(rb"tiff:Orientation(?:=[\"']|>)([0-9])")


def orientation(exif: Optional[bytes], xmp: Optional[bytes] = None) -> int:
    """Return the orientation in EXIF data, else that in XMP data, else 1."""
    found = _exif_orientation(exif) if exif else None
    if found is None and xmp:
        match = _XMP.search(xmp)
        found = int(match.group(1)) if match else None
    return 1 if found is None else found


def _exif_orientation(exif: bytes) -> Optional[int]:
    if exif.startswith(_FLAG):
        exif = exif[len(_FLAG) :]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        return _first_orientation(exif, order)
    except struct.error:
        return None


def _first_orientation(exif: bytes, order: str) -> Optional[int]:
    (at,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == _ORIENTATION and kind in (_SHORT, _LONG):
            return struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, entry + 8)[0]
    return None
