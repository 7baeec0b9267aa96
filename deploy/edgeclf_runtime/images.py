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
        with open(path, "rb", opener=_open_at_once) as stream:
            # Not the size that the file system tells: a device has none.
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImageError("{}: cannot be read ({}); an image file was expected".format(path, error.strerror))
    if len(data) > MAX_BYTES:
        raise ImageError("{}: more than the {} MB allowed; shrink the image".format(path, MAX_BYTES >> 20))
    return decode_image(data, path, max_pixels)


def _open_at_once(path, flags):
    """Open a file without waiting for a writer, where it is a pipe in a folder of images: without one it is empty."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


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
    if width < 1 or height < 1:
        raise ImageError("{}: its header says {} x {} pixels; replace or remove it".format(name, width, height))
    if width * height > max_pixels:
        raise ImageError(
            "{}: {} x {} is {:.1f} megapixels, more than the {:.0f} allowed; shrink the image".format(
                name, width, height, width * height / 1e6, max_pixels / 1e6
            )
        )
    exif = _exif(data)
    flags = cv2.IMREAD_COLOR if exif is None else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError("{}: OpenCV cannot decode it ({})".format(name, error))
    if image is None:
        raise ImageError("{}: OpenCV cannot decode it; the file is damaged, replace or remove it".format(name))
    return image if exif is None else np.ascontiguousarray(_upright(image, exif))


def _upright(image, exif):
    try:
        orientation = _tiff_tags(exif).get(274, 1)
    except (struct.error, IndexError):
        return image
    # EXIF 2.3, tag 274: 1 is upright, 2 to 4 are flips of it, 5 to 8 the same of its transpose.
    if 5 <= orientation <= 8:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def image_size(data):
    """Return (width, height) from an image file's bytes, without decoding its pixels.

    Raises ValueError where the format is not one of JPEG, PNG, BMP, WebP and TIFF, or where a
    file is cut off in a way that the format can tell.
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
    size = struct.unpack(">II", data[16:24])
    if b"IEND" not in _png_chunks(data):
        raise ValueError("the PNG is truncated; replace or remove it")
    return size


def _png_chunks(data):
    """Return where the data of each kind of chunk lies that is there in full."""
    # Length, type, data, CRC: PNG specification, section 5.3.
    chunks, at = {}, 8
    while at + 12 <= len(data) and b"IEND" not in chunks:
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if at + 12 + length <= len(data):
            chunks[kind] = slice(at + 8, at + 8 + length)
        at += 12 + length
    return chunks


def _bmp_size(data):
    file_size, header_size = struct.unpack("<2xI8xI", data[:18])
    if len(data) < file_size:
        raise ValueError("the BMP is truncated; replace or remove it")
    # OS/2's first header, of 12 bytes, holds 16-bit numbers.
    width, height = struct.unpack("<HH", data[18:22]) if header_size == 12 else struct.unpack("<ii", data[18:26])
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
    tags = _tiff_tags(data)
    if 256 not in tags or 257 not in tags:
        raise ValueError("a TIFF without a size in its first directory; replace or remove it")
    return tags[256], tags[257]


def _tiff_tags(data):
    """Return the first directory's tags 256 (width), 257 (length) and 274 (orientation), SHORT or LONG: TIFF 6.0."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[at : at + 2])
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack(order + "HH", data[entry : entry + 4])
        if tag in (256, 257, 274):
            value = struct.unpack(order + ("H2x" if kind == 3 else "I"), data[entry + 8 : entry + 12])
            tags[tag] = value[0]
    return tags


def _exif(data):
    """Return a PNG's or WebP's EXIF data, empty without any; None for what every OpenCV turns upright by itself."""
    if data.startswith(b"\x89PNG"):
        return data[_png_chunks(data).get(b"eXIf", slice(0))]
    if data.startswith(b"RIFF"):
        return _webp_exif(data)
    return None


def _webp_exif(data):
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[at : at + 8])
        if kind == b"EXIF":
            exif = data[at + 8 : at + 8 + length]
            return exif[6:] if exif.startswith(b"Exif\0\0") else exif
        at += 8 + length + length % 2
    return b""


_READERS = (
    (b"\xff\xd8\xff", _jpeg_size),
    (b"\x89PNG\r\n\x1a\n", _png_size),
    (b"BM", _bmp_size),
    (b"RIFF", _webp_size),
    (b"II*\x00", _tiff_size),
    (b"MM\x00*", _tiff_size),
)
