"""Reader, the base of the readers for each kind of source, and Pace, which times frames."""

import time
from typing import TYPE_CHECKING, Callable, List, Optional, Tuple

from ...errors import CameraError

if TYPE_CHECKING:
    import numpy as np

# An image (BGR, uint8 [height, width, 3]), the ``time.monotonic()`` of its arrival, the milliseconds spent on decoding.
Reading = Tuple["np.ndarray", float, float]


class ReaderError(CameraError):
    """A reader failed and printed the reason to stderr, where the parent of the capture process finds it.

    probed      what was found out about the address afterwards, in case the reader did not print everything
    """

    def __init__(self, reason: str, probed: str = "") -> None:
        super().__init__(reason)
        self.probed = probed


class DecoderError(CameraError):
    """The hardware's decoder is at fault, not the camera."""


class Reader:
    """Reads one source, frame after frame.

    rate        frames per second of a video file; else None
    dropped     frames that were never decoded because a newer one had arrived
    rested      frames that rest() left out
    position_s  seconds from the first frame of a video file to the one that was read last; None for live sources
    granted     what a device granted, as a sentence; else ""
    as_asked    whether that is what was requested
    ends        whether it has an end, like a video file, so that its end is not a loss
    still       whether its image may stay the same for a long time without a fault
    unreadable  frames of a video file that could not be decoded, known at its end
    notes       what the user should know about how it is read, as sentences
    """

    rate: Optional[float] = None
    dropped = 0
    rested = 0
    position_s: Optional[float] = None
    granted = ""
    as_asked = True
    ends = False
    still = False
    unreadable = 0
    notes: List[str] = []

    def read(self, out: "Optional[np.ndarray]" = None) -> Reading:
        """Read the next frame, into ``out`` if that has the frame's shape.

        Returns the image (BGR, uint8 [height, width, 3]), the ``time.monotonic()`` at which it arrived, and the
        milliseconds from then (for a video file: from the call) until it was decoded.

        Raises EndOfStream after the last frame, IncompleteFilm if a video file ends too soon, and CameraError if the
        source delivers no frame.
        """
        raise NotImplementedError

    def rest(self, until: float, resting: Callable[[], bool]) -> None:
        """Leave out frames until a ``time.monotonic()``, or until ``resting`` returns False, if that saves decoding them."""

    def close(self) -> None:
        """Release the source."""
        raise NotImplementedError


class Pace:
    """Points in time at a fixed rate, counted from the first; a rate of None means as fast as possible."""

    def __init__(self, fps: Optional[float]) -> None:
        self._interval = 1 / fps if fps else 0.0
        self._due: Optional[float] = None

    def wait(self) -> float:
        """Sleep until the next point in time; returns it (``time.monotonic()``)."""
        now = time.monotonic()
        self._due = now if self._due is None or not self._interval else self._due + self._interval
        if self._due > now:
            time.sleep(self._due - now)
        return self._due
