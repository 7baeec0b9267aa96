"""Thumbnails of a data set's images, small enough to keep all of them on disk: 6 KB each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from ..temporary import temporary_file, write_whole

SIDE = 64
COLOR_SIDE = 32
NEUTRAL = 128
_COLOR_SHAPE = (COLOR_SIDE, COLOR_SIDE, 2)
_BYTES = SIDE**2 + 2 * COLOR_SIDE**2
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
        """True if it has no texture, as with a covered lens."""
        return bool(self.gray.std() < _FLAT)


class ThumbnailFile:
    """Thumbnails in a temporary file, so that 100,000 of them take no memory; it disappears with this object."""

    def __init__(self) -> None:
        # Not a memory map: on a full disk, that would end the process.
        self._file = temporary_file()
        self._is_gray = bytearray()

    def append(self, thumbnail: Thumbnail) -> None:
        """Add a thumbnail."""
        color = np.empty(_COLOR_SHAPE, np.uint8) if thumbnail.color is None else thumbnail.color
        self._file.seek(len(self) * _BYTES)
        write_whole(self._file, thumbnail.gray.tobytes() + color.tobytes())
        self._is_gray.append(thumbnail.color is None)

    def __len__(self) -> int:
        return len(self._is_gray)

    def __getitem__(self, index: int) -> Thumbnail:
        if not 0 <= index < len(self):
            raise IndexError(index)
        self._file.seek(index * _BYTES)
        pixels = np.frombuffer(self._file.read(_BYTES), np.uint8)
        color = None if self._is_gray[index] else pixels[SIDE**2 :].reshape(_COLOR_SHAPE)
        return Thumbnail(pixels[: SIDE**2].reshape(SIDE, SIDE), color)

    def __iter__(self) -> Iterator[Thumbnail]:
        return (self[index] for index in range(len(self)))


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
