"""EXIF data: a photograph's orientation."""

import struct

_ORIENTATION, _SHORT, _LONG = 274, 3, 4
_FLAG = b"Exif\0\0"


def orientation(exif: bytes) -> int:
    """Return the orientation in EXIF data, 1 if none can be read."""
    if exif.startswith(_FLAG):
        exif = exif[len(_FLAG) :]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        return _first_orientation(exif, order)
    except struct.error:
        return 1


def _first_orientation(exif: bytes, order: str) -> int:
    (at,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == _ORIENTATION and kind in (_SHORT, _LONG):
            return struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, entry + 8)[0]
    return 1
