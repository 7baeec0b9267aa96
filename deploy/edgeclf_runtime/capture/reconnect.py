"""A live camera that comes back by itself.

A film by HTTP has an end instead: it is neither lost nor reopened, and every frame of it is handed out.

A camera is lost when its process reports so or ends, when no frame came for ``timeout_s``
(drivers can block for ever), and when the picture did not change for ``frozen_s`` (libargus can
repeat the last frame and report success; a real sensor's noise never repeats).  Its process is
then killed and started anew, with pauses of 1 s doubling to 30 s while that fails.  A source
that is not there is waited for by the process itself, twice a second, so that the pauses delay
a camera only while it is there and does not work.  A camera that is not there at the start is lost, too,
unless somebody asks for it by ``wait_opened()``.

All times are monotonic: a clock that jumps changes nothing.
"""

import logging
import time
import zlib
from typing import Any

from ..errors import CameraError, CameraLost, EndOfStream, IncompleteFilm, SourceError
from .base import Camera
from .parent import OPEN_TIMEOUT_S, CaptureProcess

TIMEOUT_S, FROZEN_S = 3.0, 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
_FROZEN_STEP = 16  # every 16th pixel of every 16th row tells one picture from the next
_log = logging.getLogger(__name__)


class WatchedCamera(Camera):
    """A live source, reopened whenever it is lost.

    timeout_s   without a frame for so long it is lost
    frozen_s    with the same picture for so long it is lost; 0 never asks; None takes FROZEN_S, and 0 for a reader that
                says that its picture may stand still
    state       "live" or "lost"
    losses      how often it was lost
    """

    policy = "latest"
    comes_back = True

    def __init__(self, source, timeout_s=TIMEOUT_S, frozen_s=None):
        self.name = source.name
        self._source, self._timeout_s, self._frozen_s = source, timeout_s, frozen_s
        self.state, self.losses = "live", 0
        self._dropped_before = 0
        self._numbers_before, self._last_number = 0, -1
        self._pause_s = FIRST_PAUSE_S
        self._next_start = 0.0
        self._capture: Any = None
        self._print: Any = None
        self._start()

    def wait_opened(self):
        """See Camera.wait_opened()."""
        self._capture.wait_opened()
        self._take_facts()
        return self

    def read(self, timeout_s=None):
        """See Camera.read(); None waits for ``timeout_s`` of the camera itself."""
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        while True:
            now = time.monotonic()
            if self._capture is None and now >= self._next_start:
                self._start()
            if self._capture is None:
                wake = min(deadline, self._next_start)
                time.sleep(max(0.0, wake - now))
                if wake == deadline:
                    return None
                continue
            frame = self._read_or_lose(min(deadline, self._give_up_at()) - now)
            if frame is not None:
                return frame
            if time.monotonic() >= deadline:
                return None

    def _start(self):
        if self.losses:
            _log.info("opening %s again", self.name)
        self._capture = CaptureProcess(self._source)
        self._changed = time.monotonic()
        self._print = None
        # A reopened camera counts from 0 again; the stream goes on counting.
        self._numbers_before = self._last_number + 1

    def _take_facts(self):
        """Take over what is known only when it is open."""
        for name in ("rate", "skipped", "mode", "as_asked"):
            setattr(self, name, getattr(self._capture, name))
        if self._capture.ends and self._source.policy != "latest":
            self.policy = "all"

    def _give_up_at(self):
        if self._capture.waiting or self._capture.ends:
            return float("inf")
        return self._capture.quiet_since + (
            self._timeout_s if self._print is not None else max(self._timeout_s, OPEN_TIMEOUT_S)
        )

    def _read_or_lose(self, timeout_s):
        try:
            frame = self._capture.read(max(0.0, timeout_s))
            now = time.monotonic()
            if frame is not None:
                return self._accept(frame, now)
            if now >= self._give_up_at():
                raise CameraLost(self._capture.silence(now - self._capture.quiet_since))
        except CameraError as error:
            if isinstance(error, (EndOfStream, IncompleteFilm, SourceError)) or self._capture.ends:
                self._take_facts()
                raise
            self._lose(str(error))
        if self._capture is not None and self._capture.waiting and self.state == "live":
            # The process goes on: it waits for the source, and opens it when it is there.
            self._tell(self._capture.why_waiting())
        return None

    def _accept(self, frame, now):
        if self._print is None:
            self._take_facts()
        if not self._capture.ends:
            self._look(frame, now)
        if self.state == "lost":
            self.state = "live"
            _log.warning("%s is %s", self._source.name, "there" if self._last_number < 0 else "back")
        self._pause_s = FIRST_PAUSE_S
        self.dropped = self._dropped_before + self._capture.dropped
        self._last_number = frame.number + self._numbers_before
        return frame._replace(number=self._last_number)

    def _look(self, frame, now):
        """Raise CameraLost where the picture has been the same for too long."""
        import numpy as np

        limit_s = self._frozen_s
        if limit_s is None:
            limit_s = 0.0 if self._capture.still else FROZEN_S
        print_ = zlib.crc32(np.ascontiguousarray(frame.image[::_FROZEN_STEP, ::_FROZEN_STEP]).data)
        if print_ != self._print:
            self._print, self._changed = print_, now
        elif limit_s and now - self._changed > limit_s:
            raise CameraLost("{} shows the same picture for {:.1f} s".format(self._source.name, now - self._changed))

    def _lose(self, reason):
        self._stop()
        self._next_start = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._tell(reason)

    def _tell(self, reason):
        _log.warning("camera lost: %s", reason)
        if self.state == "live":
            self.state, self.losses = "lost", self.losses + 1
            raise CameraLost(reason)

    def _stop(self):
        if self._capture is not None:
            self._dropped_before += self._capture.dropped
            self._capture.close()
            self._capture = None

    def close(self):
        """Kill the process; a second call does nothing."""
        self._stop()
