"""What the readers of every kind of source have in common."""

import time
from typing import List, Optional

from ...errors import CameraError


class ReaderError(CameraError):
    """A reader failed: what it writes to stderr says why, which is known to the parent of the capture process.

    probed      what was found out about the address afterwards, if the reader may have kept it to itself
    """

    def __init__(self, reason, probed=""):
        super().__init__(reason)
        self.probed = probed


class Reader:
    """The base of the readers of every kind of source; they have ``read`` and ``close`` too, see open_source().

    rate        frames a second of a film; else None
    dropped     frames that were never decoded, because a newer one had come
    position_s  seconds from the first frame of a film to the one that was read last; None for live sources
    granted     what a device granted, as a sentence; else ""
    as_asked    whether that is what was asked
    ends        whether it has an end, as a film has, so that no end of it is a loss
    still       whether its picture may stay the same for long without a fault
    unreadable  frames of a film that could not be decoded, known at its end
    notes       what its user should know of how it is read, as sentences
    """

    rate: Optional[float] = None
    dropped = 0
    position_s: Optional[float] = None
    granted = ""
    as_asked = True
    ends = False
    still = False
    unreadable = 0
    notes: List[str] = []


class Pace:
    """Times at a fixed rate, counted from the first; None for the rate means as fast as it goes."""

    def __init__(self, fps):
        self._interval = 1 / fps if fps else 0.0
        self._due: Optional[float] = None

    def wait(self):
        """Sleep until the next time has come; returns it (``time.monotonic()``)."""
        now = time.monotonic()
        self._due = now if self._due is None or not self._interval else self._due + self._interval
        if self._due > now:
            time.sleep(self._due - now)
        return self._due
