"""Changes the images of training at random, after the preprocessing.

The steps follow the way of the light: the scene moves, the lens blurs, the sensor exposes and adds noise, the file is
compressed.  Moves, turns and scales are one warp, and all changes of color are one matrix, so that a worker process prepares an
image in less than a millisecond.  Every random number is torch's, whose seed the workers inherit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torchvision.transforms import v2

from ...options import AugmentationOptions

Step = Callable[[np.ndarray], np.ndarray]
"""From uint8 [height, width, 3], RGB, to the same."""
# The usual weights of red, green and blue in gray, ITU-R BT.601; torchvision's are the same.
_GRAY = np.array([0.299, 0.587, 0.114])
# Of ImageNet's mean color, a common filling of erased rectangles.
_FILL = (124, 116, 104)
# The side for which --blur is given.
_SIDE = 224
# GaussianBlur with less changes nothing.
_LEAST_SIGMA = 0.1
_POLICIES: dict[str, Callable[[], v2.Transform]] = {"trivial": v2.TrivialAugmentWide, "randaugment": v2.RandAugment}


class Augmentation(NamedTuple):
    """Random changes of one image: uint8 [3, height, width] to the same; worker processes can receive it."""

    steps: tuple[Step, ...]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return a changed copy of an image, or the image itself if there is nothing to do."""
        if not self.steps:
            return image
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        for step in self.steps:
            pixels = step(pixels)
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def augmentation(options: AugmentationOptions, size: int) -> Augmentation:
    """Return the random changes that the options describe, for square images with a side of ``size`` pixels."""
    chosen = options.steps
    warp = (chosen.rotate, chosen.translate, chosen.zoom, chosen.perspective)
    colors = (chosen.brightness, chosen.contrast, chosen.color)
    steps: list[Step | None] = [
        partial(_crop, padding=chosen.crop_padding) if chosen.crop_padding else None,
        partial(_flip, everywhere=chosen.flips == "all") if chosen.flips != "none" else None,
        partial(_warp, strengths=warp) if any(warp) else None,
        partial(_apply, transform=_POLICIES[chosen.policy]()) if chosen.policy != "none" else None,
        partial(_blur, most=chosen.blur * size / _SIDE) if chosen.blur else None,
        partial(_expose, strengths=colors) if any(colors) else None,
        partial(_add_noise, most=chosen.noise) if chosen.noise else None,
        partial(_compress, least=chosen.jpeg) if chosen.jpeg != 100 else None,
        partial(_apply, transform=v2.RandomErasing(chosen.erase, value=list(_FILL))) if chosen.erase else None,
    ]
    return Augmentation(tuple(step for step in steps if step))


def _between(*most: float) -> list[float]:
    """Return a random number from -most to most for each."""
    return [(2 * share - 1) * one for share, one in zip(torch.rand(len(most)).tolist(), most, strict=True)]


def _half() -> bool:
    return float(torch.rand(())) < 0.5


def _crop(pixels: np.ndarray, padding: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    top, left = torch.randint(0, 2 * padding + 1, (2,)).tolist()
    padded = cv2.copyMakeBorder(pixels, *(padding,) * 4, cv2.BORDER_CONSTANT)
    return padded[top : top + height, left : left + width]


def _flip(pixels: np.ndarray, everywhere: bool) -> np.ndarray:
    if _half():
        pixels = cv2.flip(pixels, 1)
    if everywhere and _half():
        pixels = cv2.flip(pixels, 0)
    if everywhere and _half():
        pixels = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
    return pixels


def _warp(pixels: np.ndarray, strengths: tuple[float, float, float, float]) -> np.ndarray:
    """Rotate, shift, scale and tilt an image about its center; beyond its border it is mirrored."""
    rotate, translate, zoom, perspective = strengths
    height, width = pixels.shape[:2]
    angle, right, down, larger = _between(rotate, translate * width, translate * height, zoom)
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    matrix = np.vstack([cv2.getRotationMatrix2D((center_x, center_y), angle, 1 + larger), (0, 0, 1)])
    matrix[:2, 2] += right, down
    if perspective:
        corners = np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], np.float32)
        shifts = np.reshape(_between(*[perspective * width / 2, perspective * height / 2] * 4), (4, 2))
        tilt = cv2.getPerspectiveTransform(corners, corners + shifts.astype(np.float32))
        return cv2.warpPerspective(pixels, tilt @ matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return cv2.warpAffine(pixels, matrix[:2], (width, height), borderMode=cv2.BORDER_REFLECT_101)


def _expose(pixels: np.ndarray, strengths: tuple[float, float, float]) -> np.ndarray:
    """Change brightness, contrast, saturation and the channels' gains, all in one matrix [3, 4]."""
    brightness, contrast, color = strengths
    light, spread, saturation, *gains = (1 + part for part in _between(brightness, contrast, *[color] * 4))
    colors = np.diag([saturation] * 3) + (1 - saturation) * _GRAY
    colors = light * np.diag(gains) @ colors
    mean = _GRAY @ colors @ np.array(cv2.mean(pixels)[:3])
    return cv2.transform(pixels, np.column_stack([spread * colors, np.full(3, (1 - spread) * mean)]))


def _blur(pixels: np.ndarray, most: float) -> np.ndarray:
    sigma = float(torch.rand(())) * most if _half() else 0.0
    return cv2.GaussianBlur(pixels, (0, 0), sigma) if sigma > _LEAST_SIGMA else pixels


def _add_noise(pixels: np.ndarray, most: float) -> np.ndarray:
    noise = torch.randn(pixels.shape) * (most * torch.rand(()))
    return cv2.add(pixels, noise.numpy(), dtype=cv2.CV_8U)


def _compress(pixels: np.ndarray, least: int) -> np.ndarray:
    if not _half():
        return pixels
    quality = int(torch.randint(least, 101, ()))
    data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    compressed = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert compressed is not None
    return cv2.cvtColor(compressed, cv2.COLOR_BGR2RGB)


def _apply(pixels: np.ndarray, transform: v2.Transform) -> np.ndarray:
    """Apply a transform of torchvision."""
    changed: torch.Tensor = transform(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))
    return changed.permute(1, 2, 0).contiguous().numpy()
