"""A captured frame, and what every source of frames has in common."""

import time
from typing import Any, NamedTuple, Optional

# Images without a rate of their own are smoothed, and shown in a video, at this one.
IMAGES_FPS = 15


class Frame(NamedTuple):
    """One captured frame.

    image           BGR pixels, uint8 [height, width, 3]
    number          counts from 0; numbers of dropped frames are left out
    captured_at     seconds since 1970 when it was captured, for people and logs
    captured        ``time.monotonic()`` at the same moment, for measuring ages
    capture_ms      time that decoding it took (a file: reading too)
    name            the file's name where frames are files, else ""
    position_s      seconds from the first frame of a film to this one; None where frames have no times of their own
    """

    image: Any
    number: int
    captured_at: float
    captured: float
    capture_ms: float
    name: str
    position_s: Optional[float] = None

    @property
    def age_ms(self):
        """Milliseconds since it was captured."""
        return (time.monotonic() - self.captured) * 1e3


class Camera:
    """A source of frames.  Used inside ``with``; read by one thread.

    name        what the results call it, without passwords; "" if it has no name
    policy      "latest": frames that nobody fetched in time are dropped; "all": none is
    dropped     frames that were captured and never handed out
    skipped     files, and frames of a film, that could not be decoded
    rate        frames a second of a film, or of images that were given a rate; else None
    mode        of a device: the size, format and rate that it granted, as a sentence; else ""
    as_asked    whether that is what was asked
    comes_back  whether it is waited for when it is not there, so that read() works without wait_opened() too
    """

    name = ""
    policy = "all"
    dropped = 0
    skipped = 0
    rate: Optional[float] = None
    mode = ""
    as_asked = True
    comes_back = False

    def wait_opened(self):
        """Wait until it is open; returns itself.  Raises CameraError where it cannot be opened, and closes it."""
        return self

    def read(self, timeout_s=None):
        """Return the next Frame, or None where there was none for ``timeout_s``; None waits as long as it takes.

        Raises EndOfStream after the last frame, IncompleteFilm where that comes too soon, CameraLost once each time when a camera stops
        (reading on waits until it is back), and CameraError where nothing can be read.
        """
        raise NotImplementedError

    def close(self):
        """Let go of the device or file; a second call does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
