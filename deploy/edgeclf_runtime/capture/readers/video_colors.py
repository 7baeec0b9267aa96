"""Corrects the colors of video files, all of which OpenCV before 4.13 reads as BT.601."""

from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    import numpy as np

# Red's and blue's shares of the luma, by MatrixCoefficients (ITU-T H.273, table 4).
_BT601 = (0.299, 0.114)
_LUMA = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
NAMES = {1: "BT.709", 4: "FCC", 7: "SMPTE 240M", 9: "BT.2020", 10: "BT.2020"}


class ColorCorrection:
    """Converts BGR pixels that were decoded as BT.601 to the video's own color matrix.

    matrix      MatrixCoefficients of ITU-T H.273, table 4: a key of NAMES

    If a channel was clipped at 0 or 255, the lost amount is unknown: half of the possible amount is assumed, which halves
    the largest error.
    """

    def __init__(self, matrix: int) -> None:
        self._matrix = _correction(matrix)
        # Kept between frames, because allocating takes longer than computing.
        self._nearest: "Optional[np.ndarray]" = None
        self._furthest: "Optional[np.ndarray]" = None
        self._cut_off: "Optional[np.ndarray]" = None

    def __call__(self, image: "np.ndarray", out: "Optional[np.ndarray]" = None) -> "np.ndarray":
        import cv2

        self._nearest = cv2.transform(image, self._matrix, self._nearest)
        self._cut_off = cv2.threshold(image, 0, 255, cv2.THRESH_BINARY, self._cut_off)[1]
        self._furthest = cv2.bitwise_and(self._nearest, self._cut_off, self._furthest)
        self._cut_off = cv2.threshold(image, 254, 255, cv2.THRESH_BINARY, self._cut_off)[1]
        self._furthest = cv2.bitwise_or(self._furthest, self._cut_off, self._furthest)
        return cv2.addWeighted(self._nearest, 0.5, self._furthest, 0.5, 0, out)


def _correction(matrix: int) -> "np.ndarray":
    """Return the matrix for BGR pixels, float64 [3, 3]."""
    import numpy as np

    correct = np.linalg.inv(_luma_chroma(*_LUMA[matrix])).dot(_luma_chroma(*_BT601))
    return np.ascontiguousarray(correct[::-1, ::-1])


def _luma_chroma(red: float, blue: float) -> "np.ndarray":
    """Return the matrix from RGB to Y, Cb, Cr (ITU-R BT.601, 2.5.1) for red's and blue's shares of the luma."""
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
