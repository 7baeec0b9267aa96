"""Pixels of a Pillow image: the same as those of the PNG file that it would be saved as.

So there is one decoder, and one rule for gray, palettes, transparency, 16 bits and EXIF.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from edgeclf_runtime.images.read import decode_image

from ...errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

_SAVED = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""Modes that PNG has; transparency is dropped when it is read."""
_DEEP = ("I", "I;16B", "I;16L", "I;16N")
_FLOAT = "F"
_ORIENTATION = 274


def is_pillow(value: object) -> TypeGuard[Image]:
    """Return whether a value is a Pillow image."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def pillow_pixels(image: Image, name: str) -> np.ndarray:
    """Return a Pillow image's pixels, uint8 [height, width, 3], upright, BGR; ImageError, which has ``name``, if there are none."""
    return decode_image(png_of(image, name), name)


def png_of(image: Image, name: str) -> bytes:
    """Return a Pillow image as a PNG file, turned upright by its EXIF data; ImageError for a mode without fixed range."""
    from PIL import ImageOps

    data = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode not in _SAVED:
            upright = _converted(upright, name)
        # Speed counts, not size: most are decoded at once.
        upright.save(data, "PNG", compress_level=1)
    except (OSError, ValueError, SyntaxError) as error:
        raise _unreadable(name, error) from None
    return data.getvalue()


def _converted(image: Image, name: str) -> Image:
    from PIL import Image as pillow  # noqa: N813 - a module

    if image.mode == _FLOAT:
        raise ImageError(
            f"{name}: a Pillow image of mode F holds floats, whose range is unknown; mode L or RGB was expected: scale it to 0 to "
            '255, and convert it with image.convert("L")'
        )
    if image.mode not in _DEEP:
        return image.convert("RGB")
    values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 0xFFFF):
        raise ImageError(
            f"{name}: a Pillow image of mode {image.mode} has values from {values.min()} to {values.max()}; 0 to 65535 was "
            "expected: scale it"
        )
    return pillow.fromarray(values.astype(np.uint16))


def pillow_identity(image: Image, name: str) -> bytes:
    """Return bytes that are equal for images with equal pixels, palette and orientation; ImageError for a damaged file."""
    try:
        pixels = image.tobytes()
    except (OSError, ValueError, SyntaxError) as error:
        raise _unreadable(name, error) from None
    return repr((image.mode, image.size, image.getpalette(), image.getexif().get(_ORIENTATION, 1))).encode() + pixels


def _unreadable(name: str, error: Exception) -> ImageError:
    return ImageError(f"{name}: Pillow cannot read it ({' '.join(str(error).split())}); replace or remove it")
