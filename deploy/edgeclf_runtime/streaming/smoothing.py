"""Confidences over time, so that a live label does not flicker.

An exponential average over time, not over frames: its weight follows from the seconds between
two frames, so that it means the same at every frame rate and through dropped frames.  The label
changes only when another is ahead by a margin (hysteresis).
"""

import math


class Smoother:
    """The average of one stream's confidences.

    seconds     time constant: after so long an old frame weighs 1/e of a new one
    margin      how far another label's confidence must be ahead of the present label's, 0 to 1
    gap_s       after so long without a frame it begins anew; None means three time constants, at least 2 s
    """

    def __init__(self, seconds, margin=0.1, gap_s=None):
        self._seconds, self._margin = seconds, margin
        self._gap_s = max(2.0, 3 * seconds) if gap_s is None else gap_s
        self.reset()

    def reset(self):
        """Forget what was, after a camera was lost or the scene is another one."""
        self._mean = None
        self._at = 0.0
        self._place = -1

    def update(self, confidences, at):
        """Take one frame's confidences, float [labels], of the time ``at``: its capture's, or its position in a film, in seconds.

        Returns the smoothed confidences, float64 [labels], and the place of the label.
        """
        import numpy as np

        confidences = np.asarray(confidences, np.float64)
        elapsed = at - self._at
        if self._mean is None or elapsed > self._gap_s:
            self._mean, self._place = confidences, int(confidences.argmax())
        else:
            weight = 1.0 - math.exp(-max(elapsed, 0.0) / self._seconds)
            self._mean = self._mean + weight * (confidences - self._mean)
        self._at = at
        best = int(self._mean.argmax())
        if self._mean[best] > self._mean[self._place] + self._margin:
            self._place = best
        return self._mean, self._place
