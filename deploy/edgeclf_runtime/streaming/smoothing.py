"""Averages confidences over time, so that a live label does not flicker.

It is an exponential average over time, not over frames: the weight depends on the seconds between two frames, so that frame
rate and dropped frames make no difference.  The label changes only when another is ahead by a margin (hysteresis).
"""

import math
from typing import TYPE_CHECKING, Optional, Tuple

if TYPE_CHECKING:
    import numpy as np

    from ..results import NearImage


_FARTHEST = 100.0


class Smoother:
    """The average of one stream's confidences.

    seconds     time constant: a frame of this age has 1/e of a new frame's weight
    margin      lead in confidence that another label needs to replace the present one, 0 to 1
    gap_s       start over after so many seconds without a frame; None: three time constants, at least 2 s
    """

    def __init__(self, seconds: float, margin: float = 0.1, gap_s: Optional[float] = None) -> None:
        self._seconds, self._margin = seconds, margin
        self._gap_s = max(2.0, 3 * seconds) if gap_s is None else gap_s
        self.reset()

    def reset(self) -> None:
        """Start over, after a camera was lost or the scene has changed."""
        self._mean: "Optional[np.ndarray]" = None
        self._distance: Optional[float] = None
        self._nearest: "Tuple[NearImage, ...]" = ()
        self._weight = 1.0
        self._at = 0.0
        self._index = -1

    def update(self, confidences: "np.ndarray", at: float) -> "Tuple[np.ndarray, int]":
        """Add a frame's confidences, float [labels]; returns the smoothed ones, float64 [labels], and the label's index.

        at      time of the frame in seconds: of its capture, or its position in a video
        """
        import numpy as np

        confidences = np.asarray(confidences, np.float64)
        elapsed = at - self._at
        if self._mean is None or elapsed > self._gap_s:
            self._mean, self._index, self._weight = confidences, int(confidences.argmax()), 1.0
        else:
            self._weight = 1.0 - math.exp(-max(elapsed, 0.0) / self._seconds)
            self._mean = self._mean + self._weight * (confidences - self._mean)
        self._at = at
        best = int(self._mean.argmax())
        if self._mean[best] > self._mean[self._index] + self._margin:
            self._index = best
        return self._mean, self._index

    def distance(self, distance: Optional[float]) -> Optional[float]:
        """Return the average of distances, too, with the weight of the frame that update() took last; None for None."""
        if distance is None or self._distance is None:
            self._distance = distance
        else:
            # An infinite distance would stay in the average for ever.
            distance = min(distance, _FARTHEST)
            self._distance += self._weight * (distance - self._distance)
        return self._distance

    def nearest(self, images: "Tuple[NearImage, ...]") -> "Tuple[NearImage, ...]":
        """Return a frame's nearest training images, or, if it has none, those of the latest frame that had some."""
        self._nearest = images or self._nearest
        return self._nearest
