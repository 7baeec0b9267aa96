"""Measures an image as the model sees it: light, color, sharpness, noise, and a coarse layout.

Takes a fifth of a millisecond for 224 x 224 pixels on a desktop's core; ``watch.py`` measures at most five images a second.
"""

import math
import zlib
from typing import TYPE_CHECKING, NamedTuple, Tuple

if TYPE_CHECKING:
    import numpy as np

# What each value is, in the order of Measures.values.
MEASURES = ("brightness", "clipped", "contrast", "sharpness", "noise", "warmth", "green", "saturation")
SIDE = 16  # of the layout
BLOCKS = 8  # side of the grid of details
_FAR = 4  # pixels: the distance at which a blur of one or two pixels changes little
_WHITE = 250  # a level that counts as overexposed
_LEAST_SPREAD = 4.0  # levels: a flatter image has no layout
_LEAST_SIDE = 2 * SIDE
# Immerkaer 1996, "Fast noise variance estimation": flat and evenly sloping surfaces give 0.
_LAPLACE = ((1, -2, 1), (-2, 4, -2), (1, -2, 1))


class Measures(NamedTuple):
    """An image's measures.

    values      float64, in the order of MEASURES:
                brightness  mean level, 0 to 255
                clipped     share of pixels at level 250 or above
                contrast    standard deviation of the levels without their noise, as a ratio of their mean + 16
                sharpness   log2 of the difference of neighbors, as a ratio of that of pixels four apart, both without noise:
                            0 for the finest structure, -2 for none
                noise       standard deviation of the noise in levels, from the smoother half of the image
                warmth      log2 of red as a ratio of blue
                green       log2 of green as a ratio of red and blue
                saturation  mean difference of the channels, as a ratio of the brightness
    layout      float32 [SIDE * SIDE]: the brightness of the image's parts, with mean 0 and standard deviation 1
    detail      float32 [BLOCKS * BLOCKS]: log2 of the difference of pixels two apart, without noise, as a ratio of the brightness,
                with median 0
    content     a checksum of the pixels
    """

    values: "np.ndarray"
    layout: "np.ndarray"
    detail: "np.ndarray"
    content: int


def measure(image: "np.ndarray", color: str = "RGB") -> Measures:
    """Return the Measures of an image, uint8 or float32 [height, width, 3] with levels 0 to 255.

    color   the order of its channels, "RGB" or "BGR"
    """
    import cv2
    import numpy as np

    pixels = image if image.dtype == np.uint8 else cv2.convertScaleAbs(image)
    if min(pixels.shape[:2]) < _LEAST_SIDE:
        pixels = cv2.resize(pixels, (_LEAST_SIDE, _LEAST_SIDE), interpolation=cv2.INTER_LINEAR)
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY if color == "RGB" else cv2.COLOR_BGR2GRAY)
    levels = cv2.calcHist([gray], [0], None, [256], [0, 256]).ravel() / gray.size
    steps = np.arange(256)
    mean = float(levels.dot(steps))
    spread = max(float(levels.dot((steps - mean) ** 2)), 0.0) ** 0.5
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)
    layout = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    noise = _noise(gray)
    contrast = max(spread**2 - noise**2, 0.0) ** 0.5 / (mean + 16.0)
    fine = gray.astype(np.float32)
    turned = cv2.transpose(fine)
    values = (mean, float(levels[_WHITE:].sum()), contrast, _sharpness(fine, turned), noise)
    return Measures(
        np.array(values + _colors(small if color == "RGB" else small[:, ::-1])),
        (layout - layout.mean()) / max(float(layout.std()), _LEAST_SPREAD),
        _detail(fine, turned),
        zlib.crc32(pixels[::3, ::3].tobytes()),
    )


def _sharpness(gray: "np.ndarray", turned: "np.ndarray") -> float:
    near, far = (_structure(gray, distance) + _structure(turned, distance) for distance in (1, _FAR))
    # Without structure there is nothing to be sharp or blurred.
    return 0.5 * math.log((max(near, 0.0) + 0.1) / (max(far, 0.0) + 0.4), 2)


def _structure(gray: "np.ndarray", distance: int) -> float:
    """Return the mean squared difference of pixels at a distance, without that of the noise.

    It multiplies the differences in two neighboring rows, whose noise is independent; of every fourth row, for speed.
    """
    import numpy as np

    first, second = gray[0:-1:4], gray[1::4][: len(gray[0:-1:4])]
    pairs = (first[:, distance:] - first[:, :-distance], second[:, distance:] - second[:, :-distance])
    return float(np.vdot(*pairs)) / pairs[0].size


def _noise(gray: "np.ndarray") -> float:
    """Return the noise in levels: the mean of the lower half of Immerkaer's differences, as for a normal distribution."""
    import cv2
    import numpy as np

    found = cv2.convertScaleAbs(cv2.filter2D(gray, cv2.CV_16S, np.array(_LAPLACE, np.float32)))
    shares = np.cumsum(cv2.calcHist([found], [0], None, [256], [0, 256]).ravel()) / found.size
    below = np.minimum(shares, 0.5)
    # The sum over levels of the share of the lower half above each.
    mean = float((0.5 - below).sum()) / 0.5
    return mean / (6.0 * 0.3252)  # the mean of the lower half of |x|, x normal with standard deviation 1


def _colors(small: "np.ndarray") -> Tuple[float, ...]:
    red, green, blue = (float(mean) + 5.0 for mean in small.mean(0))
    spread = small.max(1) - small.min(1)
    return (
        math.log(red / blue, 2),
        math.log(green * green / (red * blue), 2) / 2,
        float(spread.mean() / (small.mean() + 5.0)),
    )


def _detail(gray: "np.ndarray", turned: "np.ndarray") -> "np.ndarray":
    import cv2
    import numpy as np

    structure = _structures(gray) + _structures(turned).T
    light = cv2.resize(gray, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
    found = 0.5 * np.log2(np.maximum(structure, 0.0) + 0.25) - np.log2(light + 16.0)
    return (found - np.median(found)).ravel()


def _structures(gray: "np.ndarray") -> "np.ndarray":
    """Return the mean squared difference of pixels two apart in each block, without that of the noise: [BLOCKS, BLOCKS]."""
    import cv2

    rows = len(gray) // 2 * 2
    first, second = (gray[start:rows:2, 2:] - gray[start:rows:2, :-2] for start in (0, 1))
    return cv2.resize(first * second, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
