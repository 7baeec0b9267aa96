"""Pictures of a fixed camera past which objects move, for tests of the health monitor."""

import functools

import cv2
import numpy as np

from edgeclf_runtime.streaming.health.baseline import fit_baseline
from edgeclf_runtime.streaming.health.measures import measure
from tests.support.pictures import noise

SIDE = 96
# A photograph's background has edges of every size, and no wrapping levels.
_BACKGROUND = cv2.GaussianBlur(noise(SIDE, SIDE), (0, 0), 1.2).astype(np.float32) * 0.5 + 30


@functools.lru_cache(maxsize=2048)  # many tests show the same 300, and their noise takes longer than all that is tested
def scene(number, light=1.0):
    """The picture of one object in some light, as a model sees it: RGB, uint8 [96, 96, 3]; the same for the same number."""
    random = np.random.RandomState(number)
    picture = _BACKGROUND.copy()
    left, top = 34 + random.randint(-4, 5, 2)
    color = random.randint(60, 200, 3).astype(float)
    width, height = random.randint(16, 30, 2)
    picture[top : top + height, left : left + width] = color
    picture = picture * light + random.standard_normal(picture.shape) * 2
    picture = picture.clip(0, 255).astype(np.uint8)
    picture.flags.writeable = False
    return picture


def training(count=120):
    """The baseline of pictures by day and by night."""
    measured = [measure(scene(number, 1.0 if number % 2 else 0.6)) for number in range(count)]
    return fit_baseline(measured, labels=[0.5, 0.5], low=(0.6, 0.05))


def blurred(picture):
    """The picture out of focus."""
    return cv2.GaussianBlur(picture, (0, 0), 2.5)


def moved(picture):
    """The picture of a camera that was turned by ten degrees."""
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 10, 1.0)
    return cv2.warpAffine(picture, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)


def dirty(picture):
    """The picture with a smear over a quarter of it."""
    picture = picture.copy()
    picture[:48, :48] = picture.mean() * 0.9
    return picture


def tinted(picture):
    """The picture with a wrong white balance."""
    return (picture * np.array([1.3, 1.0, 0.7])).clip(0, 255).astype(np.uint8)


def noisy(picture):
    """The picture of a sensor that got hot."""
    random = np.random.RandomState(int(picture[0, 0, 0]))
    return (picture + random.standard_normal(picture.shape) * 15).clip(0, 255).astype(np.uint8)


def gray(picture):
    """The picture of an infrared camera."""
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
