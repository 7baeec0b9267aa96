"""When a film's frames are shown: their positions, and a rate for them.  Knows nothing of OpenCV's calls."""

import heapq
from typing import Any, Iterator

_REORDERED_FRAMES = 32  # H.264 and HEVC show a frame at most 16 later than they store it
USUAL_RATE_FPS, _HIGHEST_RATE_FPS = 25, 120
# A rate for a film without one rate: of the shortest steps, but for a twentieth of them.
_SHORT_STEPS, _SAME_STEPS_S, _SAME_RATE = 0.05, 0.0025, 0.005


class FilmClock:
    """The position of each frame in its film, in seconds from the first frame's; never goes back.

    listed      iterator of the times by the container, in order; empty where they are not needed
    trusted     whether OpenCV says the times too; it may say 0 for some
    rate        frames a second where nobody says a time
    """

    def __init__(self, listed, trusted, rate):
        self._listed, self._trusted = listed, trusted
        self._step_s = 1.0 / (rate or USUAL_RATE_FPS)
        self._first = next(self._listed, None)
        self._base = 0.0
        self._last = -1.0  # before the first

    @property
    def knows_times(self):
        """Whether there are times by the container."""
        return self._first is not None

    def next(self, said_s):
        """Return the position of the next frame, for which OpenCV says ``said_s``."""
        if self._last < 0:
            self._base, self._last = (said_s if self._trusted else 0.0), 0.0
        elif self._trusted and said_s > 0 and said_s - self._base >= self._last:
            self._last = said_s - self._base
        else:
            self._last = self._guess()
            if self._trusted and said_s > 0:
                self._base = said_s - self._last  # the times have started over
        return self._last

    def _guess(self):
        for time_s in self._listed:
            position_s = time_s - self._first
            if not self._trusted or position_s > self._last:
                return max(position_s, self._last)
        return self._last + self._step_s


def in_order(times) -> Iterator[float]:
    """Yield times that come nearly in order, in order; None among them is left out."""
    waiting: Any = []
    for time_s in times:
        if time_s is not None:
            heapq.heappush(waiting, time_s)
            if len(waiting) > _REORDERED_FRAMES:
                yield heapq.heappop(waiting)
    while waiting:
        yield heapq.heappop(waiting)


def film_rate(times, said_fps):
    """Return the frames a second at which a film can be stored, or None where nothing is known.

    times       of its frames, or None
    said_fps    by OpenCV, which says averages and guesses for films without one rate

    It is the film's own rate where all steps are alike; else that of its shortest steps, so that no frame is left out.
    """
    said_fps = said_fps if 0 < said_fps < 1000 else None
    if not times or len(times) < 2 or times[-1] <= times[0]:
        return said_fps
    steps = sorted(after - before for before, after in zip(times, times[1:]))
    usual = steps[int(len(steps) * _SHORT_STEPS)]
    if steps[-1 - int(len(steps) * _SHORT_STEPS)] - usual <= _SAME_STEPS_S or usual <= 0:
        own_fps = (len(times) - 1) / (times[-1] - times[0])
        # Times that are rounded to milliseconds give 29.997 for 30.
        alike = said_fps is not None and abs(own_fps - said_fps) < _SAME_RATE * said_fps
        return said_fps if alike else min(own_fps, _HIGHEST_RATE_FPS)
    return min(1.0 / usual, _HIGHEST_RATE_FPS)
