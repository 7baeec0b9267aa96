"""Pictures of a page, as data URIs of bounded size."""

from __future__ import annotations

import base64

import cv2
import numpy as np

SIDE = 144
"""Side of a picture, in pixels."""
_MOST_BYTES = 14_000
_QUALITIES = (82, 65, 45, 25, 10)
_BLUE, _ORANGE = (190, 120, 60), (40, 100, 220)
"""As OpenCV orders colors; on a light page and on a dark one."""
_FAINTEST = 0.35
_HEAT = 0.55
"""Opacity of the warmest spot of a heat map."""


def picture(pixels: np.ndarray, heat: np.ndarray | None = None) -> str:
    """Return an image, uint8 [height, width, 3], RGB, as a small JPEG; heat: what shone, 0 to 1 [h, w], laid over it."""
    small = _fitted(pixels)
    if heat is not None:
        small = _warmed(small, heat)
    for quality in _QUALITIES:
        data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= _MOST_BYTES:
            break
    return _uri("jpeg", data)


def matrix(shares: np.ndarray, side: int = 600) -> str:
    """Return a square matrix of shares, 0 to 1, as a picture: the diagonal blue, the rest orange, 0 transparent."""
    cells = len(shares)
    # A single image of many is to be seen as well.
    ink = np.where(shares > 0, _FAINTEST + (1 - _FAINTEST) * np.sqrt(shares), 0.0)
    step = -(-cells // side)
    # The strongest cell of each patch, so that none vanishes.
    padded = np.zeros((step * -(-cells // step),) * 2)
    padded[:cells, :cells] = ink
    ink = padded.reshape(len(padded) // step, step, -1, step).max((1, 3))
    pixels = np.empty((*ink.shape, 4), np.uint8)
    pixels[:, :, :3] = np.where(np.eye(len(ink), dtype=bool)[:, :, None], _BLUE, _ORANGE)
    pixels[:, :, 3] = np.round(255 * ink)
    return _uri("png", cv2.imencode(".png", pixels)[1].tobytes())


def _fitted(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _warmed(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    heat = cv2.resize(heat.astype(np.float32), pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR).clip(0, 1)
    color = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO)[:, :, ::-1]
    opacity = _HEAT * np.sqrt(heat)[:, :, None]
    return (pixels * (1 - opacity) + color * opacity).round().astype(np.uint8)


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
