"""Positions of a video file's frames, and its frame rate."""

import heapq
from typing import Iterable, Iterator, List, Optional, Sequence

_REORDERED_FRAMES = 32  # H.264 and HEVC show a frame at most 16 frames later than they store it
USUAL_RATE_FPS, _HIGHEST_RATE_FPS = 25, 120
# The rate of a video whose rate varies: that of its shortest steps, ignoring the shortest twentieth.
_SHORT_STEPS, _SAME_STEPS_S, _SAME_RATE = 0.05, 0.0025, 0.005


class VideoClock:
    """Each frame's position in its video, in seconds from the first frame; it never goes back.

    listed      iterator over the container's times, in order; empty if they are not needed
    trusted     whether OpenCV reports times as well; it may report 0 for some
    rate        frames per second, for frames without a time
    """

    def __init__(self, listed: Iterator[float], trusted: bool, rate: Optional[float]) -> None:
        self._listed, self._trusted = listed, trusted
        self._step_s = 1.0 / (rate or USUAL_RATE_FPS)
        self._first = next(self._listed, None)
        self._base = 0.0
        self._last = -1.0  # before the first

    @property
    def knows_times(self) -> bool:
        """True if the container has times."""
        return self._first is not None

    def next(self, said_s: float) -> float:
        """Return the position of the next frame, for which OpenCV reports ``said_s``."""
        if self._last < 0:
            self._base, self._last = (said_s if self._trusted else 0.0), 0.0
        elif self._trusted and said_s > 0 and said_s - self._base >= self._last:
            self._last = said_s - self._base
        else:
            self._last = self._guess()
            if self._trusted and said_s > 0:
                self._base = said_s - self._last  # the times started over
        return self._last

    def _guess(self) -> float:
        for time_s in self._listed:
            position_s = time_s - (self._first or 0.0)
            if not self._trusted or position_s > self._last:
                return max(position_s, self._last)
        return self._last + self._step_s


def in_order(times: Iterable[Optional[float]]) -> Iterator[float]:
    """Yield nearly ordered times in order, without the Nones among them."""
    waiting: List[float] = []
    for time_s in times:
        if time_s is not None:
            heapq.heappush(waiting, time_s)
            if len(waiting) > _REORDERED_FRAMES:
                yield heapq.heappop(waiting)
    while waiting:
        yield heapq.heappop(waiting)


def video_rate(times: Optional[Sequence[float]], said_fps: float) -> Optional[float]:
    """Return the frames per second at which a video can be stored, or None if nothing is known.

    times       of its frames, or None
    said_fps    as reported by OpenCV, which averages and guesses if the rate varies

    If all steps are alike, it is the video's own rate; else that of its shortest steps, so that no frame is left out.
    """
    known_fps = said_fps if 0 < said_fps < 1000 else None
    if not times or len(times) < 2 or times[-1] <= times[0]:
        return known_fps
    steps = sorted(after - before for before, after in zip(times, times[1:]))
    usual = steps[int(len(steps) * _SHORT_STEPS)]
    if steps[-1 - int(len(steps) * _SHORT_STEPS)] - usual <= _SAME_STEPS_S or usual <= 0:
        own_fps = (len(times) - 1) / (times[-1] - times[0])
        # Times that are rounded to milliseconds give 29.997 for 30.
        if known_fps is not None and abs(own_fps - known_fps) < _SAME_RATE * known_fps:
            return known_fps
        return min(own_fps, _HIGHEST_RATE_FPS)
    return min(1.0 / usual, _HIGHEST_RATE_FPS)
