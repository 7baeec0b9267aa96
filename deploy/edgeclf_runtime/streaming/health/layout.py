"""Compares an image's layout with the mean training image: how far the camera has moved, and how much of it is covered.

A small movement changes a picture by a sum of four known patterns, its derivatives by shift, rotation and zoom (Lucas and Kanade
1981, "An iterative image registration technique"); the amounts follow by weighted least squares.  Parts of the picture
that differ from image to image count little, so a background that is always the same decides.
"""

from typing import TYPE_CHECKING, Sequence, Union

from .measures import SIDE

if TYPE_CHECKING:
    import numpy as np

    from .measures import Measures

    Numbers = Union[Sequence[float], np.ndarray]

# What Layout.compare() returns, in this order.
PLACEMENT = ("shift-x", "shift-y", "rotation", "zoom", "layout", "covered")
_LEAST_SPREAD = 0.08  # of the layout's parts: more than a camera's noise
_LEAST_DETAIL_SPREAD = 0.35  # of the details, in log2
_SMOOTH = 1.6  # standard deviations below the mean: 1 of 18 single images, if they are normally distributed
_RIDGE = 0.5  # as if each amount had been 0 in a part of the picture: against pictures without edges


class Layout:
    """The mean and the spread of training images' layout and detail.

    mean, spread                float [SIDE * SIDE]
    detail_mean, detail_spread  float [BLOCKS * BLOCKS]
    """

    def __init__(
        self,
        mean: "Numbers",
        spread: "Numbers",
        detail_mean: "Numbers",
        detail_spread: "Numbers",
    ) -> None:
        import numpy as np

        self.mean, self.spread = np.asarray(mean, np.float64), np.asarray(spread, np.float64)
        self.detail_mean = np.asarray(detail_mean, np.float64)
        self.detail_spread = np.asarray(detail_spread, np.float64)
        self._weights = 1.0 / (self.spread**2 + _LEAST_SPREAD**2)
        self._weights /= self._weights.mean()
        patterns = _patterns(self.mean.reshape(SIDE, SIDE))
        weighted = patterns * self._weights
        matrix = weighted.dot(patterns.T)
        matrix += np.eye(len(matrix)) * (_RIDGE + 1e-3 * matrix.trace())
        self._solution = np.linalg.solve(matrix, weighted)

    def compare(self, layout: "np.ndarray", detail: "np.ndarray") -> "np.ndarray":
        """Return how an image, or the mean of several, differs, float64 in the order of PLACEMENT.

        layout, detail      as in Measures

        The shifts are in percent of the width and height, positive to the right and down; the rotation is in degrees, positive
        clockwise; the zoom is in percent; layout is the log2 of the mean squared difference; covered is the share of the
        picture that lacks its usual detail, less the share that has more.
        """
        import numpy as np

        difference = layout - self.mean
        excess = (detail - self.detail_mean) / np.maximum(self.detail_spread, _LEAST_DETAIL_SPREAD)
        found = np.empty(len(PLACEMENT))
        found[:4] = self._solution.dot(difference)
        found[4] = np.log2(np.mean(self._weights * difference**2) + 1e-3)
        found[5] = (np.count_nonzero(excess < -_SMOOTH) - np.count_nonzero(excess > _SMOOTH)) / excess.size
        return found

    def coherence(self, layout: "np.ndarray") -> float:
        """Return how much of the difference from the mean is in large patches, 0 to 1: dirt is a patch, a movement shifts edges.

        It is the variance that remains after averaging over 5 x 5 parts.
        """
        import cv2

        difference = (layout - self.mean).reshape(SIDE, SIDE)
        return float(cv2.blur(difference, (5, 5)).var() / (difference.var() + 1e-4))


def fit_layout(measured: "Sequence[Measures]") -> Layout:
    """Return the Layout of training images, one or more."""
    import numpy as np

    layouts = np.array([one.layout for one in measured], np.float64)
    details = np.array([one.detail for one in measured], np.float64)
    return Layout(layouts.mean(0), layouts.std(0), details.mean(0), details.std(0))


def _patterns(mean: "np.ndarray") -> "np.ndarray":
    """Return the picture's changes by 1 % of shift to the right and down, 1 degree clockwise and 1 % of zoom, [4, pixels]."""
    import numpy as np

    down, right = np.gradient(mean)
    y, x = np.mgrid[0:SIDE, 0:SIDE] - (SIDE - 1) / 2.0
    percent, degree = SIDE / 100.0, np.pi / 180.0
    changes = (-percent * right, -percent * down, degree * (y * right - x * down), -0.01 * (x * right + y * down))
    return np.array([change.ravel() for change in changes])
