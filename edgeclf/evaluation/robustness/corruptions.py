"""Corruptions that a camera adds to a photograph, in five severities, the same for the same pixels every time.

The idea is that of Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations"; the corruptions and their values are our own, in units of optics and photography where there are any, so the
figures are not those of ImageNet-C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from edgeclf_runtime.files.read import sha256_bytes
from edgeclf_runtime.images.preprocess import Preprocessing

_GAMMA = 2.2
"""Exponent between light and pixels, roughly that of sRGB."""
_READ_NOISE = 1.5
"""Electrons, usual for CMOS sensors."""
_FOG = 230.0
"""Brightness of fog, in levels of 0 to 255."""


@dataclass(frozen=True)
class Corruption:
    """A corruption: what its values mean, its value at each severity, and the function that applies it."""

    unit: str
    values: tuple[float, ...]
    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    """Takes uint8 [height, width, 3] in BGR order, a value, and random numbers; returns the same shape."""


def corrupt(image: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Return a corrupted copy of an image, uint8 [height, width, 3] in BGR order; severity: 1 to 5.

    Its random numbers depend on the name and the image's pixels only, so every severity of an image has the same pattern of
    noise, direction of motion and so on.
    """
    chosen = TABLE[name]
    seed = int(sha256_bytes(name.encode() + np.ascontiguousarray(image).tobytes())[:16], 16)
    return chosen.apply(image, chosen.values[severity - 1], np.random.default_rng(seed))


def reduced(image: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Return a photograph halved, as preprocessing does it, while it is at least twice as large as the model's input.

    So a severity means the same for photographs of 12 and of 0.1 megapixels.
    """
    while image.shape[0] >= 2 * spec.height and image.shape[1] >= 2 * spec.width:
        image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return image


def _noise(image: np.ndarray, electrons: float, random: np.random.Generator) -> np.ndarray:
    """Add a sensor's noise: shot noise, which grows with the square root of the signal, and read noise."""
    signal = image.astype(np.float32) * np.float32(electrons / 255)
    noise = random.standard_normal(image.shape, np.float32) * np.sqrt(signal + np.float32(_READ_NOISE**2))
    return _levels((signal + noise) * np.float32(255 / electrons))


def _defocus(image: np.ndarray, percent: float, random: np.random.Generator) -> np.ndarray:
    """Blur by a disk, the image of a point that is out of focus."""
    # A disk within one pixel changes nothing.
    radius = max(0.5, percent / 100 * min(image.shape[:2]))
    reach, fine = int(np.ceil(radius)), 8
    # Each pixel of the kernel is the share of it that the disk covers, by 8 x 8 samples.
    steps = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    inside = (steps[:, None] ** 2 + steps[None, :] ** 2 <= radius**2).astype(np.float32)
    kernel = inside.reshape(2 * reach + 1, fine, 2 * reach + 1, fine).sum((1, 3))
    return _filtered(image, kernel)


def _motion(image: np.ndarray, percent: float, random: np.random.Generator) -> np.ndarray:
    """Blur along a line in a random direction."""
    length, angle = percent / 100 * min(image.shape[:2]), random.uniform(0, np.pi)
    reach = int(np.ceil(length / 2)) + 1
    along = np.linspace(-length / 2, length / 2, 16 * reach + 1)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    x, y = along * np.cos(angle) + reach, along * np.sin(angle) + reach
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for dx, dy in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (1 - abs(x - left - dx)) * (1 - abs(y - top - dy))
        np.add.at(kernel, (np.minimum(top + dy, 2 * reach), np.minimum(left + dx, 2 * reach)), share)
    return _filtered(image, kernel)


def _exposed(image: np.ndarray, stops: float, random: np.random.Generator) -> np.ndarray:
    """Change the exposure by photographic stops: one more is twice the light, until pixels are white."""
    return _mapped(image, np.arange(256) * 2 ** (stops / _GAMMA))


def _foggy(image: np.ndarray, percent: float, random: np.random.Generator) -> np.ndarray:
    """Cover the scene by an even veil of fog or glare, which lowers the contrast."""
    return _mapped(image, np.arange(256) * (1 - percent / 100) + _FOG * percent / 100)


def _jpeg(image: np.ndarray, quality: float, random: np.random.Generator) -> np.ndarray:
    """Compress as JPEG."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def _rotated(image: np.ndarray, degrees: float, random: np.random.Generator) -> np.ndarray:
    """Turn to one side or the other about the center; the corners mirror the image."""
    height, width = image.shape[:2]
    center = ((width - 1) / 2, (height - 1) / 2)
    turn = cv2.getRotationMatrix2D(center, degrees * random.choice((-1, 1)), 1.0)
    return np.asarray(cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _tinted(image: np.ndarray, percent: float, random: np.random.Generator) -> np.ndarray:
    """Raise red and lower blue, or the reverse: a wrong white balance."""
    gain = percent / 100 * random.choice((-1, 1))
    tables = [_levels(np.arange(256) * factor) for factor in (1 - gain, 1, 1 + gain)]
    return np.asarray(cv2.LUT(image, np.stack(tables, axis=-1)[None]), np.uint8)


def _coarse(image: np.ndarray, factor: float, random: np.random.Generator) -> np.ndarray:
    """Lose resolution, as by a distant subject that is enlarged."""
    height, width = image.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _levels(values: np.ndarray) -> np.ndarray:
    """Round to levels of 0 to 255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _mapped(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.LUT(image, _levels(table)), np.uint8)


def _filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101), np.uint8)


_SIDE = "of the shorter side"
TABLE = {
    "noise": Corruption(
        "electrons of a white pixel, with 1.5 electrons of read noise", (800, 300, 120, 50, 20), _noise
    ),
    "defocus": Corruption(f"radius of the blurred disk, % {_SIDE}", (0.4, 0.8, 1.2, 1.8, 2.6), _defocus),
    "motion": Corruption(f"length of the motion, % {_SIDE}", (1, 2, 4, 6, 9), _motion),
    "dark": Corruption("exposure, stops", (-1, -2, -3, -4, -5), _exposed),
    "bright": Corruption("exposure, stops", (0.5, 1, 1.5, 2, 2.5), _exposed),
    "fog": Corruption("share of light from an even veil, %", (20, 35, 50, 65, 80), _foggy),
    "jpeg": Corruption("quality of the JPEG", (50, 30, 20, 12, 6), _jpeg),
    "rotation": Corruption("rotation, degrees", (3, 6, 10, 15, 20), _rotated),
    "color-cast": Corruption("gain of red against blue, %", (8, 16, 25, 35, 50), _tinted),
    "resolution": Corruption("resolution is lower by this factor", (2, 3, 4, 6, 8), _coarse),
}
"""The corruptions by name; those of options.CORRUPTIONS."""
