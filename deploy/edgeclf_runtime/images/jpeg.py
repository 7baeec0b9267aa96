"""Encodes images as JPEG, for people."""

from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    import numpy as np

QUALITY = 80
MAX_SIDE = 1280
"""Longer side of a picture for a page, in pixels."""


def encode_jpeg(image: "np.ndarray", quality: int = QUALITY, most_side: Optional[int] = None) -> bytes:
    """Return BGR pixels, uint8 [height, width, 3], as a JPEG file.

    quality     1 to 100
    most_side   pixels of the longer side: a larger image is scaled down
    """
    import cv2

    height, width = image.shape[:2]
    scale = 1.0 if most_side is None else most_side / max(height, width)
    if scale < 1:
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    data: bytes = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return data
