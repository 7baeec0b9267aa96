"""Image file formats: a strict parser for each header, and the bytes that make up the picture.

Each format's module has one function, ``read``, which takes a file's bytes and returns a Picture.  It raises
ValueError, IndexError or struct.error for anything the format does not allow.  Only what it passes on reaches a
decoder, so no decoder can read a header differently.
"""

from typing import TYPE_CHECKING

from . import bmp, jpeg, png, tiff, webp

if TYPE_CHECKING:
    from .picture import Picture

_READERS = (
    (b"\xff\xd8\xff", jpeg.read),
    (b"\x89PNG\r\n\x1a\n", png.read),
    (b"BM", bmp.read),
    (b"RIFF", webp.read),
    (b"II*\x00", tiff.read),
    (b"MM\x00*", tiff.read),
)


def read_picture(data: bytes) -> "Picture":
    """Return the Picture in an image file's bytes; raises ValueError, IndexError or struct.error if there is none."""
    for magic, read in _READERS:
        if data.startswith(magic):
            return read(data)
    raise ValueError("not an image (JPEG, PNG, BMP, WebP or TIFF was expected)")
