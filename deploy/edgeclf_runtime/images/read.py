"""Reads photographs from files: each is checked before it is decoded, with the same result everywhere.

``read_image`` is the only decoder in the project.  It refuses, with the reason, what OpenCV would accept: a truncated
JPEG or PNG (OpenCV fills the rest with gray), a text file called .jpg, an image of so many pixels that decoding it
would exhaust a small machine.  Gray, RGBA, CMYK, 16-bit and EXIF-rotated files become upright 8-bit BGR (``bit_depths``
chooses 8 of 16 bits).

OpenCV never sees a file as it is: ``formats`` reads its header and passes on only the bytes that make up the picture.
"""

import glob
import logging
import os
import re
import struct
from collections import Counter
from typing import TYPE_CHECKING, Iterable, Iterator, List, Optional, Tuple, Union
from urllib.parse import unquote_to_bytes, urlsplit

from .. import MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE
from ..errors import ImageError
from ..files import read
from ..files.read import AnyPath
from . import bit_depths
from .formats import read_picture
from .formats.picture import UnsupportedError

if TYPE_CHECKING:
    import numpy as np

    from .formats.picture import Picture

# Other names of JPEG, BMP and PNG, by browsers and Windows, come last; a file is decoded by its content.
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    *(".jfif", ".jpe", ".jif", ".jfi", ".pjpeg", ".pjp", ".dib", ".apng"),
)
HEIF_SUFFIXES = (".heic", ".heif", ".hif", ".avif")  # not read here
# Windows, macOS and servers make these beside photographs.
SYSTEM_FILES = frozenset(
    ("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "autorun.inf", "aquota.user")
)
MAX_PIXELS = MAX_IMAGE_PIXELS
MAX_BYTES = 256 * 1024 * 1024
_log = logging.getLogger(__name__)


def is_image_name(name: AnyPath, suffixes: Tuple[str, ...] = SUFFIXES) -> bool:
    """Return whether a file name has the suffix of a supported image format."""
    return str(name).lower().endswith(suffixes)


def image_paths(name: AnyPath, suffixes: Tuple[str, ...] = SUFFIXES) -> Optional[List[str]]:
    """Return the paths of the images that a file, folder or pattern name stands for, in natural order.

    None for a name that stands for something else.  An existing file or folder takes precedence over a pattern;
    subfolders are not read.  suffixes: of the files that are images.  Raises ImageError if a folder or a pattern has no image.
    """
    name = local_path(name)
    if os.path.isdir(name):
        try:
            entries = os.listdir(name)
        except OSError as error:
            raise ImageError("{}: cannot be read ({}); a folder of images was expected".format(name, error.strerror))
        found = [os.path.join(name, entry) for entry in entries if is_image_name(entry, suffixes)]
        _warn_of_left_out(name, [entry for entry in entries if not is_image_name(entry, suffixes)])
        return _some(found, name, "subfolders are not read; for them, give {}".format(os.path.join(name, "*", "*")))
    if os.path.lexists(name):
        return [name] if is_image_name(name, suffixes) else None
    if "://" in name or not glob.has_magic(name):
        return None
    folder, pattern = os.path.split(name)
    # A folder's name may look like a pattern.
    name = os.path.join(glob.escape(folder), pattern) if os.path.isdir(folder) else name
    return _some([path for path in glob.glob(name, recursive=True) if is_image_name(path, suffixes)], name)


def each_image(names: Iterable[AnyPath], suffixes: Tuple[str, ...] = SUFFIXES) -> Iterator[Union[str, ImageError]]:
    """Yield the paths of the images that names stand for (see image_paths); an ImageError for a name without any."""
    for name in names:
        try:
            paths = image_paths(name, suffixes)
            yield from [local_path(name)] if paths is None else paths
        except ImageError as error:
            yield error


def _warn_of_left_out(folder: str, entries: Iterable[str]) -> None:
    """Warn of the files among the entries of a folder that are not read as images, by suffix."""
    files = [entry for entry in entries if not (entry.startswith(".") or entry.lower() in SYSTEM_FILES)]
    suffixes = Counter(
        os.path.splitext(entry)[1].lower() or "(none)" for entry in files if os.path.isfile(os.path.join(folder, entry))
    )
    if suffixes:
        table = ", ".join("{} ({})".format(suffix, count) for suffix, count in suffixes.most_common())
        _log.warning("%s: files left out, by suffix: %s; convert the images among them to PNG or JPEG", folder, table)


def _some(paths: List[str], name: str, hint: str = "") -> List[str]:
    if not paths:
        said = "{} holds no image (JPEG, PNG, BMP, WebP or TIFF was expected)".format(name)
        raise ImageError(said + ("; " + hint if hint else ""))
    return sorted(paths, key=natural_key)


def natural_key(path: AnyPath) -> Tuple[List[List[Union[str, int]]], str]:
    """Return a sort key that puts frame2.png before frame10.png."""
    names = [re.split("([0-9]+)", name) for name in str(path).split(os.sep)]
    # Every second piece is a number, so numbers are compared with numbers.
    return [[int(piece) if at % 2 else piece for at, piece in enumerate(pieces)] for pieces in names], str(path)


def local_path(name: AnyPath) -> str:
    """Return the path in a file:// address, and any other name unchanged; ImageError for another machine's file."""
    name = str(name)
    if not name.lower().startswith("file:/"):
        return name
    parts = urlsplit(name)
    if parts.netloc.lower() not in ("", "localhost") or not parts.path:
        raise ImageError("{} is not a file on this machine; file:///FOLDER/FILE was expected".format(name))
    return os.fsdecode(unquote_to_bytes(parts.path))


def read_image(path: AnyPath, max_pixels: int = MAX_PIXELS, noted: Optional[bit_depths.Note] = None) -> "np.ndarray":
    """Read an image file into upright BGR pixels.

    max_pixels  a smaller limit than MAX_PIXELS; a larger one has no effect
    noted       called with the name and the largest value of a nearly black 16-bit image, since its data may have
                fewer bits; None logs the first of them, see images/bit_depths.py

    Returns uint8 of shape [height, width, 3], channels in OpenCV's order blue, green, red.
    Raises ImageError, its message naming the file, if the file is missing, not a regular file, empty, not an image,
    damaged, truncated, or has more than ``max_pixels`` pixels.
    """
    path = str(path)
    try:
        data = read.read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise ImageError("{}: cannot be read ({}); an image file was expected".format(path, error.strerror))
    except ValueError:
        raise ImageError("{}: larger than the {} MB allowed; shrink the image".format(path, MAX_BYTES >> 20))
    except MemoryError:
        raise ImageError("{}: not enough memory to read it; shrink the image".format(path))
    return decode_image(data, path, max_pixels, noted)


def decode_image(
    data: bytes, name: str = "image", max_pixels: int = MAX_PIXELS, noted: Optional[bit_depths.Note] = None
) -> "np.ndarray":
    """Decode the bytes of an image file; see :func:`read_image`."""
    if not data:
        raise ImageError("{}: the file is empty; replace or remove it".format(name))
    try:
        picture = read_picture(data)
        _check_size(picture, name, min(max_pixels, MAX_PIXELS))
        content = picture.content()
    except (struct.error, IndexError):
        raise ImageError("{}: the image is cut off inside its header; replace or remove it".format(name))
    except UnsupportedError as error:
        raise ImageError("{}: {}".format(name, error))
    except ValueError as error:
        raise ImageError("{}: {}; replace or remove it".format(name, error))
    except MemoryError:
        raise ImageError("{}: not enough memory to decode it; shrink the image".format(name))
    image = _decode(content, picture, name)
    try:
        if picture.deep:
            image = bit_depths.eight_bits(image, picture, name, noted)
        if picture.premultiplied:
            image = _divided_by_opacity(image)
        if picture.cmyk:
            image = _darkened(image)
        return _upright(image, picture.orientation)
    except MemoryError:
        raise ImageError("{}: not enough memory to decode it; shrink the image".format(name))


def _check_size(picture: "Picture", name: str, max_pixels: int) -> None:
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


def _decode(content: Union[bytes, bytearray], picture: "Picture", name: str) -> "np.ndarray":
    import cv2
    import numpy as np

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_ANYDEPTH if picture.as_stored else 0)
    if picture.premultiplied:
        flags = cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    # Depending on its version, OpenCV raises its own error, MemoryError, SystemError and others.
    except Exception as error:
        raise ImageError("{}: OpenCV cannot decode it ({})".format(name, error))
    if image is None:
        raise ImageError("{}: OpenCV cannot decode it; the file is damaged, replace or remove it".format(name))
    dtype = np.uint16 if picture.as_stored else np.uint8
    if image.shape != (picture.height, picture.width, 4 if picture.premultiplied else 3) or image.dtype != dtype:
        raise ImageError(
            "{}: OpenCV decoded {} {} for the {} x {} pixels in its header; replace or remove it".format(
                name, image.dtype, image.shape, picture.width, picture.height
            )
        )
    return image


def _divided_by_opacity(image: "np.ndarray") -> "np.ndarray":
    """Return the colors of premultiplied pixels, uint8 [height, width, 4], rounded down as Pillow does."""
    import numpy as np

    colors, opacity = image[:, :, :3], image[:, :, 3:]
    if opacity.min() == 255:
        return np.ascontiguousarray(colors)
    divided = np.minimum(colors.astype(np.uint16) * np.uint16(255) // np.maximum(opacity, 1), 255).astype(np.uint8)
    return np.where(opacity, divided, colors)


def _darkened(image: "np.ndarray") -> "np.ndarray":
    """Return a CMYK picture's BGR pixels one level darker, but for 0 and 255: within 1 level of Pillow's.

    Of stored (inverted) inks, OpenCV computes a channel as k - ((255 - c) * k >> 8), Pillow as k - round((255 - c) * k / 255).
    Over every c and k, OpenCV's result is 0 to 2 levels brighter.
    """
    import cv2
    import numpy as np

    levels = np.arange(256, dtype=np.uint8)
    levels[1:255] -= 1
    return cv2.LUT(image, levels)


def _upright(image: "np.ndarray", orientation: int) -> "np.ndarray":
    """Turn an image upright by EXIF 2.3, tag 274: 2 to 4 are flips, 5 to 8 the same of the transpose."""
    import numpy as np

    if 5 <= orientation <= 8:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
