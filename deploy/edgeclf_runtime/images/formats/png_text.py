"""A PNG's orientation: its eXIf chunk, XMP, and the hexadecimal EXIF of ImageMagick before version 7."""

import zlib
from typing import Dict, Optional

from . import exif

KINDS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_XMP, _RAW_EXIF, _EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif", b"eXIf"
# XMP and EXIF have some kilobytes; a text chunk can inflate to a thousand times its size.
_MAX_TEXT = 1 << 20


class Metadata:
    """The first chunk of each kind that may give an orientation."""

    def __init__(self) -> None:
        self._found: Dict[bytes, bytes] = {}

    def add(self, kind: bytes, body: bytes) -> None:
        """Keep a chunk's data if they may give an orientation."""
        if kind == _EXIF:
            self._found.setdefault(_EXIF, body)
            return
        keyword, _, rest = body.partition(b"\0")
        if keyword in (_XMP, _RAW_EXIF) and keyword not in self._found:
            text = _text(kind, rest)
            if text is not None:
                self._found[keyword] = text

    def orientation(self) -> int:
        """Return the orientation, 1 if there is none."""
        raw = self._found.get(_EXIF) or _unhexed(self._found.get(_RAW_EXIF, b""))
        return exif.orientation(raw, self._found.get(_XMP))


def _text(kind: bytes, body: bytes) -> Optional[bytes]:
    """Return the text after the keyword of a text chunk (section 11.3.3), None if it cannot be read."""
    compressed = kind == b"zTXt"
    if kind == b"zTXt":
        body = body[1:]
    elif kind == b"iTXt":
        compressed, parts = body[:1] == b"\1", body[2:].split(b"\0", 2)
        body = parts[-1]
    if not compressed:
        return body
    try:
        return zlib.decompressobj().decompress(body, _MAX_TEXT)
    except zlib.error:
        return None


def _unhexed(profile: bytes) -> bytes:
    """Return the data of a raw profile: a line with its name, one with its length, and hexadecimal digits."""
    lines = profile.split(None, 2)
    if len(lines) != 3:
        return b""
    try:
        return bytes.fromhex(b"".join(lines[2].split()).decode("ascii"))
    except ValueError:
        return b""
