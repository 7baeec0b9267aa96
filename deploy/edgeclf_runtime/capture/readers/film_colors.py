"""Colors of films that were read as BT.601, which OpenCV before 4.13 does with every film."""

from typing import Any

# Red's and blue's share of the luma, by the film's code (ITU-T H.273, table 4); OpenCV reads all as BT.601.
_BT601 = (0.299, 0.114)
_LUMA = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
NAMES = {1: "BT.709", 4: "FCC", 7: "SMPTE 240M", 9: "BT.2020", 10: "BT.2020"}


class ColorCorrection:
    """Turns BGR pixels that were made by BT.601 into those of the film's own matrix.

    matrix      MatrixCoefficients of ITU-T H.273, table 4: a key of NAMES

    Where a channel was cut off at 0 or 255 nobody knows by how much: half of what is possible is assumed, which halves the
    largest error.
    """

    def __init__(self, matrix):
        self._matrix = _correction(matrix)
        # Kept, because new memory takes longer than the sums.
        self._nearest: Any = None
        self._furthest: Any = None
        self._cut_off: Any = None

    def __call__(self, image, out=None):
        import cv2

        self._nearest = cv2.transform(image, self._matrix, self._nearest)
        self._cut_off = cv2.threshold(image, 0, 255, cv2.THRESH_BINARY, self._cut_off)[1]
        self._furthest = cv2.bitwise_and(self._nearest, self._cut_off, self._furthest)
        self._cut_off = cv2.threshold(image, 254, 255, cv2.THRESH_BINARY, self._cut_off)[1]
        self._furthest = cv2.bitwise_or(self._furthest, self._cut_off, self._furthest)
        return cv2.addWeighted(self._nearest, 0.5, self._furthest, 0.5, 0, out)


def _correction(matrix):
    """Return the matrix for BGR pixels, float64 [3, 3]."""
    import numpy as np

    correct = np.linalg.inv(_luma_chroma(*_LUMA[matrix])).dot(_luma_chroma(*_BT601))
    return np.ascontiguousarray(correct[::-1, ::-1])


def _luma_chroma(red, blue):
    """Return the matrix from RGB to Y, Cb, Cr (ITU-R BT.601, 2.5.1), by red's and blue's share of the luma."""
    import numpy as np

    green = 1 - red - blue
    blue_scale, red_scale = 2 * (1 - blue), 2 * (1 - red)
    return np.array(
        [
            [red, green, blue],
            [-red / blue_scale, -green / blue_scale, 0.5],
            [0.5, -green / red_scale, -blue / red_scale],
        ]
    )
