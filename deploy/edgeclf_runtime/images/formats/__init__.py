"""Image file formats: a strict parser for each header, and the bytes that make up the picture.

Each format's module has one function, ``read``, which takes a file's bytes and returns a Picture.  It raises
ValueError, IndexError or struct.error for anything the format does not allow, and UnsupportedError for what it allows and is
not read.  Only what it passes on reaches a decoder, so no decoder can read a header differently.
"""

from typing import TYPE_CHECKING

from . import bmp, jpeg, png, tiff, webp
from .picture import UnsupportedError

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
# Formats that are not read, by their first bytes; an ISO file's kind is at byte 4.
_OTHERS = (
    (b"GIF8", "a GIF"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"8BPS", "a Photoshop file"),
    (b"DDS ", "a DDS texture"),
    (b"\0\0\x01\0", "an icon"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"SIMPLE  =", "a FITS file"),
    (b"qoif", "a QOI image"),
    (b"%PDF", "a PDF"),
    (b"<svg", "an SVG drawing"),
    *((b"P%d%s" % (kind, space), "a Netpbm image") for kind in range(1, 8) for space in (b"\n", b" ", b"\r", b"\t")),
)
_ISO = {
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"), "a HEIC photograph"),
}


def read_picture(data: bytes) -> "Picture":
    """Return the Picture in an image file's bytes; raises ValueError, IndexError or struct.error if there is none."""
    for magic, read in _READERS:
        if data.startswith(magic):
            return read(data)
    other = next((name for magic, name in _OTHERS if data.startswith(magic)), None)
    other = other or (_ISO.get(data[8:12]) if data[4:8] == b"ftyp" else None)
    if other:
        raise UnsupportedError("{}; JPEG, PNG, BMP, WebP or TIFF was expected, convert it to PNG".format(other))
    raise ValueError("not an image (JPEG, PNG, BMP, WebP or TIFF was expected)")
