"""Pictures of a page, as data URIs of bounded size."""

from __future__ import annotations

import base64

import cv2
import numpy as np

SIDE = 144
"""Longer side of a picture, in pixels."""


def picture(pixels: np.ndarray) -> str:
    """Return an image, uint8 [height, width, 3], RGB, as a small JPEG."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
