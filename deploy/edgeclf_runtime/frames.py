"""A captured frame, and what every source of frames has in common."""

import time
from typing import Any, NamedTuple, Optional


class Frame(NamedTuple):
    """One captured frame.

    image           BGR pixels, uint8 [height, width, 3]
    number          counts from 0; numbers of dropped frames are left out
    captured_at     seconds since 1970 when it was captured, for people and logs
    captured        ``time.monotonic()`` at the same moment, for measuring ages
    capture_ms      time that decoding it took (a file: reading too)
    name            the file's name where frames are files, else ""
    """

    image: Any
    number: int
    captured_at: float
    captured: float
    capture_ms: float
    name: str

    @property
    def age_ms(self):
        """Milliseconds since it was captured."""
        return (time.monotonic() - self.captured) * 1e3


class Camera:
    """A source of frames.  Used inside ``with``; read by one thread.

    policy      "latest": frames that nobody fetched in time are dropped; "all": none is
    dropped     frames that were captured and never handed out
    skipped     files that could not be decoded
    rate        frames a second of a file, where it has a rate of its own; else None
    """

    policy = "all"
    dropped = 0
    skipped = 0
    rate: Optional[float] = None

    def wait_opened(self):
        """Wait until it is open; returns itself.  Raises CameraError where it cannot be opened, and closes it."""
        return self

    def read(self, timeout_s=None):
        """Return the next Frame, or None where there was none for ``timeout_s``; None waits as long as it takes.

        Raises EndOfStream after the last frame, CameraLost once each time when a camera stops
        (reading on waits until it is back), and CameraError where nothing can be read.
        """
        raise NotImplementedError

    def close(self):
        """Let go of the device or file; a second call does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
