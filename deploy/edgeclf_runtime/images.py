"""Reading a photograph from a file: checked before it is decoded, the same everywhere.

``read_image`` is the only decoder in the project.  It refuses by name what OpenCV would
swallow: a truncated JPEG or PNG (OpenCV fills the rest with grey), a text file called .jpg,
an image of so many pixels that decoding it would exhaust a small machine.  Grey, RGBA, CMYK,
16-bit and EXIF-rotated files come out as upright 8-bit BGR.

OpenCV never sees a file as it came: ``formats`` reads its header and hands on the bytes that make the picture.
Knows nothing of models or of resizing.
"""

import struct

from . import MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE, files
from .errors import ImageError
from .formats import read_picture

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_PIXELS = MAX_IMAGE_PIXELS
MAX_BYTES = 256 * 1024 * 1024


def is_image_name(name):
    """Whether a file's name has the suffix of an image that we read."""
    return str(name).lower().endswith(SUFFIXES)


def read_image(path, max_pixels=MAX_PIXELS):
    """Read an image file into upright BGR pixels.

    max_pixels  a smaller limit than MAX_PIXELS; a larger one changes nothing

    Returns uint8 of shape [height, width, 3], channels in OpenCV's order blue, green, red.
    Raises ImageError, its message naming the file, if the file is missing, not a regular file, empty, not an
    image, damaged, truncated, or of more than ``max_pixels`` pixels.
    """
    path = str(path)
    try:
        data = files.read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise ImageError("{}: cannot be read ({}); an image file was expected".format(path, error.strerror))
    except ValueError:
        raise ImageError("{}: more than the {} MB allowed; shrink the image".format(path, MAX_BYTES >> 20))
    except MemoryError:
        raise ImageError("{}: there is not enough memory to read it; shrink the image".format(path))
    return decode_image(data, path, max_pixels)


def decode_image(data, name="image", max_pixels=MAX_PIXELS):
    """Decode the bytes of an image file; see :func:`read_image`."""
    if not data:
        raise ImageError("{}: the file is empty; replace or remove it".format(name))
    try:
        picture = read_picture(data)
        _check_size(picture, name, min(max_pixels, MAX_PIXELS))
        content = picture.content()
    except (struct.error, IndexError):
        raise ImageError("{}: the image is cut off inside its header; replace or remove it".format(name))
    except ValueError as error:
        raise ImageError("{}: {}; replace or remove it".format(name, error))
    except MemoryError:
        raise ImageError("{}: there is not enough memory to decode it; shrink the image".format(name))
    return _upright(_decode(content, picture, name), picture.orientation)


def _check_size(picture, name, max_pixels):
    width, height = picture.width, picture.height
    if width < 1 or height < 1:
        raise ImageError("{}: its header says {} x {} pixels; replace or remove it".format(name, width, height))
    if max(width, height) > MAX_IMAGE_SIDE:
        raise ImageError(
            "{}: {} x {} pixels, more than the {} allowed for a side; shrink the image".format(
                name, width, height, MAX_IMAGE_SIDE
            )
        )
    if width * height > max_pixels:
        raise ImageError(
            "{}: {} x {} is {:.1f} megapixels, more than the {:.0f} allowed; shrink the image".format(
                name, width, height, width * height / 1e6, max_pixels / 1e6
            )
        )


def _decode(content, picture, name):
    import cv2
    import numpy as np

    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    # OpenCV raises its own error, MemoryError, SystemError and others, by version.
    except Exception as error:
        raise ImageError("{}: OpenCV cannot decode it ({})".format(name, error))
    if image is None:
        raise ImageError("{}: OpenCV cannot decode it; the file is damaged, replace or remove it".format(name))
    if image.shape != (picture.height, picture.width, 3) or image.dtype != np.uint8:
        raise ImageError(
            "{}: OpenCV decoded {} {} for the {} x {} pixels in its header; replace or remove it".format(
                name, image.dtype, image.shape, picture.width, picture.height
            )
        )
    return image


def _upright(image, orientation):
    """Return an image turned as EXIF 2.3, tag 274 says: 2 to 4 are flips, 5 to 8 the same of its transpose."""
    import numpy as np

    if 5 <= orientation <= 8:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
