"""Worlds for field.py: what a fixed camera sees by day and by night, with and without faults, as measures and results.

A world is a set of objects before a background.  "cells" are ELPV's solar cells, which fill the picture, and are gray.  "belt" is
Fashion-MNIST's clothes, in color, on a photograph of scikit-image.  Light falls by up to 1.5 stops at night, becomes warmer, and the
sensor's noise grows.  Faults are those of edgeclf.evaluation.robustness where it has them, and dirt of our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from edgeclf.data.datasets import load_dataset
from edgeclf.data.public_sets import fashion_mnist
from edgeclf.evaluation.robustness.corruptions import TABLE
from edgeclf_runtime.images.read import read_image
from edgeclf_runtime.streaming.health.measures import Measures, measure

SIDE = 224
LIGHTS = (0.0, -0.5, -1.0, -1.5)
"""Exposures by day and by night, in stops."""
_ELECTRONS = 4000.0
"""Of a white pixel by day."""
DIRT = (5, 10, 20, 35, 50)
"""Share of the picture that dirt covers, in percent."""
UNKNOWN = (10, 25, 50, 70, 90)
"""Percentage of images from an unknown class."""
ONE_LABEL = (30, 50, 70, 85, 100)
"""Percentage of images with the rarest label."""
NETWORK_SIDE = 96
"""The network's images are smaller than those that are measured: its features take most of the time."""
PICTURES = {
    "dark": "dark",
    "overexposed": "bright",
    "blurred": "defocus",
    "color cast": "color-cast",
    "moved": "rotation",
    "noisy": "noise",
}
"""Faults that change the picture as a corruption does, by verdict."""
UNSEEN = 2
"""Classes of "belt" that training does not have."""


class Network(Protocol):
    """Turns images, uint8 [N, side, side, 3] RGB, into features, float32 [N, features]."""

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the features of images."""


@dataclass
class Pool:
    """Images in each light: measures, features, predicted labels, confidences and distances, [objects, lights, ...]."""

    values: np.ndarray
    layout: np.ndarray
    detail: np.ndarray
    features: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray | None = None
    score: np.ndarray | None = None
    distance: np.ndarray | None = None

    def flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and true labels of all images, [images, ...]."""
        return np.concatenate(list(self.features)), np.repeat(self.truth, self.features.shape[1])

    def one(self, index: int, light: int, content: int) -> Measures:
        """Return one image's Measures."""
        return Measures(self.values[index, light], self.layout[index, light], self.detail[index, light], content)


class Scene:
    """A camera's view: objects, background and light.

    name        cells or belt
    background  name of a photograph of scikit-image, for belt
    """

    def __init__(self, name: str, background: str, seed: int) -> None:
        self.name = name
        self._random = np.random.default_rng(seed)
        self._pattern = self._random.standard_normal((SIDE, SIDE, 3), np.float32)
        self.gray = False  # whether the camera is in infrared: no color
        self._background = _photograph(background) if name == "belt" else None

    def objects(self, part: str, count: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Return pictures, uint8 [SIDE, SIDE, 3] BGR, and their classes; part: train, tune, test, unseen or foreign."""
        if self.name == "cells":
            return self._cells(part, count)
        if part == "foreign":
            chosen = _crops(count, self._random)
            return [
                self._on_belt(cv2.resize(one, (28, 28), interpolation=cv2.INTER_AREA)[:, :, 0]) for one in chosen
            ], np.zeros(count, int)
        pictures, targets = _fashion(part)
        chosen = self._random.permutation(len(pictures))[:count]
        return [self._on_belt(pictures[index]) for index in chosen], targets[chosen]

    def _cells(self, part: str, count: int) -> tuple[list[np.ndarray], np.ndarray]:
        if part == "foreign":
            return _crops(count, self._random), np.zeros(count, int)
        data = load_dataset("elpv")
        samples = [one for one in data.samples if _third(one.path.name) == part]
        chosen = [samples[index] for index in self._random.permutation(len(samples))[:count]]
        pictures = [cv2.resize(read_image(one.path), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in chosen]
        return pictures, np.array([data.index(one) for one in chosen])

    def _on_belt(self, article: np.ndarray) -> np.ndarray:
        size = int(self._random.uniform(0.5, 0.6) * SIDE)
        large = cv2.resize(article, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        mask = cv2.GaussianBlur((large > 20).astype(np.float32), (0, 0), 1)[..., None]
        color = np.array([self._random.uniform(0.5, 1) for _ in range(3)], np.float32)
        left, top = ((SIDE - size) // 2 + self._random.integers(-6, 7, 2)).tolist()
        assert self._background is not None
        picture = self._background.astype(np.float32)
        part = picture[top : top + size, left : left + size]
        part[...] = part * (1 - mask) + large[..., None] * color * mask
        return picture.clip(0, 255).astype(np.uint8)

    def seen(self, picture: np.ndarray, light: float) -> np.ndarray:
        """Return a picture as the camera takes it in some light, uint8 RGB."""
        lit = TABLE["dark"].apply(picture, light, self._random)
        if self.name == "belt":
            warm = 1 + 0.1 * light / LIGHTS[-1]
            lit = (lit * np.array([2 - warm, 1, warm])).clip(0, 255).astype(np.uint8)
        if self.gray:
            lit = cv2.cvtColor(cv2.cvtColor(lit, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        # As TABLE["noise"], with one pattern for all images, shifted: random numbers would take most of the time.
        pattern = np.roll(self._pattern, self._random.integers(SIDE, size=2), (0, 1))
        gain = 255 / (_ELECTRONS * 2**light)
        noisy = lit + pattern * np.sqrt(lit * gain + (1.5 * gain) ** 2)
        return cv2.cvtColor(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), cv2.COLOR_BGR2RGB)


def _photograph(name: str) -> np.ndarray:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("field.py needs scikit-image's photographs; install it: python3 -m pip install scikit-image")
    picture = read_image(next((Path(spec.origin).parent / "data").glob(f"{name}.*g")))
    side = min(picture.shape[:2])
    return cv2.resize(picture[:side, :side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _crops(count: int, random: np.random.Generator) -> list[np.ndarray]:
    """Return gray parts of photographs."""
    photographs = [
        _photograph(name) for name in ("astronaut", "coffee", "chelsea", "rocket", "gravel", "grass", "brick")
    ]
    found = []
    for _ in range(count):
        picture = photographs[random.integers(len(photographs))]
        side = int(random.integers(100, SIDE + 1))
        top, left = random.integers(0, SIDE - side + 1, 2)
        part = cv2.resize(picture[top : top + side, left : left + side], (SIDE, SIDE))
        found.append(cv2.cvtColor(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR))
    return found


def _third(name: str) -> str:
    return ("train", "tune", "test")[int("".join(filter(str.isdigit, name))) % 3]


def _fashion(part: str) -> tuple[np.ndarray, np.ndarray]:
    folder = fashion_mnist._DEBIAN
    prefix = "t10k" if part in ("test", "unseen") else "train"
    pictures = fashion_mnist.read_idx(folder, f"{prefix}-images-idx3-ubyte", 3)
    targets = fashion_mnist.read_idx(folder, f"{prefix}-labels-idx1-ubyte", 1).astype(int)
    half = len(pictures) // 2
    if part in ("train", "tune"):
        pictures, targets = (one[:half] if part == "train" else one[half:] for one in (pictures, targets))
    known = targets < 10 - UNSEEN
    wanted = ~known if part == "unseen" else known
    return pictures[wanted], targets[wanted]


def faulty(picture: np.ndarray, fault: str, severity: int, random: np.random.Generator) -> np.ndarray:
    """Return a picture with a fault of a severity, 1 to 5; direction and place are those of the random numbers."""
    if fault in PICTURES:
        one = TABLE[PICTURES[fault]]
        return one.apply(picture, one.values[severity - 1], random)
    if fault == "dirty or covered":
        return _dirty(picture, DIRT[severity - 1] / 100, random)
    if fault == "lens cap":
        return np.full_like(picture, 3)
    return picture


def _dirty(picture: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Cover an ellipse of the picture with a smear: blurred, and mixed with a brown or gray of its own."""
    mask = np.zeros(picture.shape[:2], np.float32)
    ratio = random.uniform(0.6, 1.6)
    long = (share / np.pi * ratio) ** 0.5 * SIDE
    center = random.uniform(0.25, 0.75, 2) * SIDE
    axes = (int(long), int(long / ratio))
    cv2.ellipse(mask, tuple(center.astype(int).tolist()), axes, random.uniform(0, 180), 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 4)[..., None]
    level = random.uniform(40, 140)
    color = np.array([0.8, 0.9, 1.0]) * level if picture.std(2).mean() > 2 else np.full(3, level)
    smeared = 0.35 * cv2.GaussianBlur(picture, (0, 0), 6) + 0.65 * color
    return (picture * (1 - mask) + smeared * mask).clip(0, 255).astype(np.uint8)


def measured(
    scene: Scene, pictures: list[np.ndarray], truth: np.ndarray, network: Network, lights: tuple[float, ...] = LIGHTS
) -> Pool:
    """Return the measures and features of pictures in each light."""
    found, features = [], []
    for picture in pictures:
        seen = [scene.seen(picture, light) for light in lights]
        found.append([measure(one) for one in seen])
        small = [cv2.resize(one, (NETWORK_SIDE, NETWORK_SIDE), interpolation=cv2.INTER_AREA) for one in seen]
        features.append(network.features(np.stack(small)))
    return Pool(
        *(np.array([[getattr(one, name) for one in row] for row in found]) for name in ("values", "layout", "detail")),
        np.array(features),
        truth,
    )
