"""Thumbnails of a data set's images, small enough to keep all of them: 4 KB for a gray image, 6 KB for a color one."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 64
COLOR_SIDE = 32
NEUTRAL = 128
_COLORLESS = 4
"""An image is gray if no pixel of its thumbnail is this far from neutral; JPEG tints gray pixels by 1 or 2 of 255."""
_FLAT = 2.0
"""A thumbnail has no texture to compare if its standard deviation is below this, of 255."""


@dataclass(frozen=True)
class Thumbnail:
    """A small copy of an image, squeezed into a square."""

    gray: np.ndarray
    """uint8 [SIDE, SIDE]."""
    color: np.ndarray | None
    """Chrominance of YCrCb, uint8 [COLOR_SIDE, COLOR_SIDE, 2]; None if the image is gray."""

    @property
    def is_flat(self) -> bool:
        """Whether it has no texture, such as that of a covered lens."""
        return bool(self.gray.std() < _FLAT)


def thumbnail_of(image: np.ndarray) -> Thumbnail:
    """Return the thumbnail of an image, uint8 [height, width, 3], BGR."""
    image = _halved(image, 8 * SIDE)
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small = cv2.resize(_halved(image, 4 * COLOR_SIDE), (COLOR_SIDE, COLOR_SIDE), interpolation=cv2.INTER_AREA)
    color = np.ascontiguousarray(cv2.cvtColor(small, cv2.COLOR_BGR2YCrCb)[:, :, 1:])
    tint = np.abs(color.astype(np.int16) - NEUTRAL).max()
    return Thumbnail(gray, color if tint >= _COLORLESS else None)


def _halved(image: np.ndarray, least: int) -> np.ndarray:
    """Return an image halved until its shorter side is below ``least``; OpenCV halves ten times as fast as it takes other means."""
    while min(image.shape[:2]) >= least:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return image
