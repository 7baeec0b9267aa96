"""Reading a photograph from a file: checked before it is decoded, the same everywhere.

``read_image`` is the only decoder in the project.  It refuses by name what OpenCV would
swallow: a truncated JPEG or PNG (OpenCV fills the rest with grey), a text file called .jpg,
an image of so many pixels that decoding it would exhaust a small machine.  Grey, RGBA, CMYK,
16-bit and EXIF-rotated files come out as upright 8-bit BGR.

Knows nothing of models or of resizing.
"""

import os
import struct

from .errors import ImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_PIXELS = 50 * 1000 * 1000
MAX_BYTES = 256 * 1024 * 1024


def is_image_name(name):
    """Whether a file's name has the suffix of an image that we read."""
    return str(name).lower().endswith(SUFFIXES)


def read_image(path, max_pixels=MAX_PIXELS):
    """Read an image file into upright BGR pixels.

    Returns uint8 of shape [height, width, 3], channels in OpenCV's order blue, green, red.
    Raises ImageError, its message naming the file, where the file is missing, empty, not an
    image, truncated, or of more than ``max_pixels`` pixels.
    """
    path = str(path)
    try:
        size = os.path.getsize(path)
        if size > MAX_BYTES:
            raise ImageError("{}: {} MB is more than the {} MB read".format(path, size >> 20, MAX_BYTES >> 20))
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise ImageError("{}: cannot be read ({})".format(path, error.strerror))
    return decode_image(data, path, max_pixels)


def decode_image(data, name="image", max_pixels=MAX_PIXELS):
    """Decode the bytes of an image file; see :func:`read_image`."""
    import cv2
    import numpy as np

    if not data:
        raise ImageError("{}: the file is empty; replace or remove it".format(name))
    try:
        width, height = image_size(data)
    except (struct.error, IndexError):
        raise ImageError("{}: the image is cut off inside its header; replace or remove it".format(name))
    except ValueError as error:
        raise ImageError("{}: {}".format(name, error))
    if width * height > max_pixels:
        raise ImageError(
            "{}: {} x {} is {:.1f} megapixels, more than the {:.0f} allowed; shrink the image".format(
                name, width, height, width * height / 1e6, max_pixels / 1e6
            )
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError("{}: OpenCV cannot decode it ({})".format(name, error))
    if image is None:
        raise ImageError("{}: OpenCV cannot decode it; the file is damaged, replace or remove it".format(name))
    return image


def image_size(data):
    """Return (width, height) from an image file's bytes, without decoding its pixels.

    Raises ValueError where the format is not one of JPEG, PNG, BMP, WebP and TIFF, or where a
    JPEG or PNG stops before its end marker.
    """
    for magic, reader in _READERS:
        if data.startswith(magic):
            return reader(data)
    raise ValueError("not an image (JPEG, PNG, BMP, WebP or TIFF was expected); replace or remove it")


def _jpeg_size(data):
    # Markers by ITU-T T.81, table B.1: SOF0..SOF15 hold the size, without DHT, JPG and DAC.
    size, at = None, 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        if data[at] != 0xFF:
            raise ValueError("a JPEG with a damaged header; replace or remove it")
        marker = data[at + 1]
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            size = width, height
        at += 2 + length
        if marker == 0xDA:
            break
    if size is None:
        raise ValueError("a JPEG without a size in its header; replace or remove it")
    # Inside entropy-coded data 0xFF is always followed by 0x00 or a restart marker, so the
    # first 0xFFD9 behind the scan header is the end of the image.
    if data.find(b"\xff\xd9", at) < 0:
        raise ValueError("the JPEG is truncated (it has no end marker); replace or remove it")
    return size


def _png_size(data):
    # Walk the chunks: length, type, data, CRC (PNG specification, section 5.3).
    size, at = struct.unpack(">II", data[16:24]), 8
    while True:
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, at = data[at + 4 : at + 8], at + 12 + length
        if at > len(data) or len(kind) < 4:
            raise ValueError("the PNG is truncated (a chunk is cut off); replace or remove it")
        if kind == b"IEND":
            return size
        if at == len(data):
            raise ValueError("the PNG is truncated (it has no end chunk); replace or remove it")


def _bmp_size(data):
    width, height = struct.unpack("<ii", data[18:26])
    return width, abs(height)


def _webp_size(data):
    # RIFF container, RFC 9649: VP8 (lossy), VP8L (lossless) or VP8X (extended).
    (riff_length,) = struct.unpack("<I", data[4:8])
    if data[8:12] != b"WEBP":
        raise ValueError("a RIFF file that is not WebP; replace or remove it")
    if len(data) < riff_length + 8:
        raise ValueError("the WebP is truncated; replace or remove it")
    kind = data[12:16]
    if kind == b"VP8X":
        return _uint24(data, 24) + 1, _uint24(data, 27) + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _uint24(data, at):
    return data[at] | data[at + 1] << 8 | data[at + 2] << 16


def _tiff_size(data):
    # TIFF 6.0: the first directory's tags 256 (width) and 257 (length), SHORT or LONG.
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[at : at + 2])
    found = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack(order + "HH", data[entry : entry + 4])
        if tag in (256, 257):
            found[tag] = struct.unpack(
                order + ("H" if kind == 3 else "I"), data[entry + 8 : entry + (10 if kind == 3 else 12)]
            )[0]
    if len(found) < 2:
        raise ValueError("a TIFF without a size in its first directory; replace or remove it")
    return found[256], found[257]


_READERS = (
    (b"\xff\xd8\xff", _jpeg_size),
    (b"\x89PNG\r\n\x1a\n", _png_size),
    (b"BM", _bmp_size),
    (b"RIFF", _webp_size),
    (b"II*\x00", _tiff_size),
    (b"MM\x00*", _tiff_size),
)
