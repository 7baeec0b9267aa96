"""The image files that are read: each format's header, parsed strictly, and the bytes that make its picture.

A module for each format has one function, ``read``, which takes a file's bytes and returns a Picture.  It raises
ValueError, IndexError or struct.error for what the format does not allow.  Nothing that it leaves out reaches a decoder,
so that no decoder can read a header differently.  Knows nothing of OpenCV.
"""

from . import bmp, jpeg, png, tiff, webp

_READERS = (
    (b"\xff\xd8\xff", jpeg.read),
    (b"\x89PNG\r\n\x1a\n", png.read),
    (b"BM", bmp.read),
    (b"RIFF", webp.read),
    (b"II*\x00", tiff.read),
    (b"MM\x00*", tiff.read),
)


def read_picture(data):
    """Return the Picture in an image file's bytes; raises ValueError, IndexError or struct.error for what is not one."""
    for magic, read in _READERS:
        if data.startswith(magic):
            return read(data)
    raise ValueError("not an image (JPEG, PNG, BMP, WebP or TIFF was expected)")
