"""Pace, which repeats or leaves out frames so that a video at a constant rate lasts as long as its stream."""


class Pace:
    """Decides how often each frame of a stream is written.

    start       time of the first frame, in seconds
    rate        frames a second of the video
    gap_s       a longer gap in the stream is shortened to this
    """

    def __init__(self, start: float, rate: float, gap_s: float) -> None:
        self.start, self.written = start, 0
        self._rate, self._limit = rate, int(gap_s * rate)

    def repeats(self, moment: float) -> int:
        """Return how often to write the frame of a time, and count it as written."""
        due = int((moment - self.start) * self._rate + 0.5) + 1
        if due - self.written > self._limit:
            self.start += (due - self.written - self._limit) / self._rate
            due = self.written + self._limit
        repeats = max(due - self.written, 0)
        self.written += repeats
        return repeats
