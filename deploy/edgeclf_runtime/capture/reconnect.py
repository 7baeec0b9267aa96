"""Reopens a live camera after it was lost.

A camera is lost when its process reports so or ends, when no frame came for ``timeout_s`` (drivers can block forever),
and when the image did not change for ``frozen_s`` (libargus can repeat the last frame and report success; a real
sensor's noise never repeats).  Its process is then killed and restarted, after 1 s, doubling to 30 s while that fails.
If the source is unavailable, the process itself checks for it twice a second, so these delays apply only to a camera
that is present but does not work.  A camera that is unavailable at the start counts as lost, too, unless the caller
uses ``wait_opened()``.

A video file by HTTP is different: it has an end, every frame is handed out, and it is neither lost nor reopened.

If the hardware's decoder fails, the source is decoded in software, see ``capture/fallback.py``.

All times are monotonic, so clock changes do not matter.
"""

import logging
import time
import zlib
from typing import TYPE_CHECKING, Optional

from ..errors import CameraError, CameraLost, EndOfStream, IncompleteFilm, SourceError
from ..images.frame import Frame
from .camera import Camera
from .fallback import Fallback
from .parent import OPEN_TIMEOUT_S, CaptureProcess

if TYPE_CHECKING:
    from .source import Source

TIMEOUT_S, FROZEN_S = 3.0, 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
_FROZEN_STEP = 16  # every 16th pixel of every 16th row is enough to notice a change
_log = logging.getLogger(__name__)


class WatchedCamera(Camera):
    """A live source that is reopened whenever it is lost.

    timeout_s   without a frame for so long, it is lost
    frozen_s    with the same image for so long, it is lost; 0 turns this check off; None takes FROZEN_S, or 0 if the reader
                says that its image may stay the same
    state       "live" or "lost"
    losses      how often it was lost
    """

    policy = "latest"
    comes_back = True

    def __init__(self, source: "Source", timeout_s: float = TIMEOUT_S, frozen_s: Optional[float] = None) -> None:
        self.name = source.name
        self._fallback = Fallback(source)
        self._source, self._timeout_s, self._frozen_s = source, timeout_s, frozen_s
        self.state, self.losses = "live", 0
        self._dropped_before = self._rested_before = 0
        self._resting = False
        self._numbers_before, self._last_number = 0, -1
        self._pause_s = FIRST_PAUSE_S
        self._next_start = 0.0
        self._capture: Optional[CaptureProcess] = None
        self._checksum: Optional[int] = None  # of the last image; None before the first
        self._start()

    def wait_opened(self) -> "WatchedCamera":
        """See Camera.wait_opened()."""
        if self._capture is None:
            raise CameraError("{} was closed".format(self.name))
        try:
            self._capture.wait_opened()
        except SourceError:
            raise
        except CameraError as error:
            if not self._fallback.after(self._capture, str(error)):
                raise
            self._start()
            self._capture.wait_opened()
        self._take_facts(self._capture)
        return self

    def read(self, timeout_s: Optional[float] = None) -> Optional[Frame]:
        """See Camera.read(); None waits for as long as the camera's own ``timeout_s``."""
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
            frame = self._read_or_lose(self._capture, min(deadline, self._give_up_at(self._capture)) - now)
            if frame is not None:
                return frame
            if time.monotonic() >= deadline:
                return None

    def _start(self) -> None:
        if self.losses:
            _log.info("reopening %s", self.name)
        self._capture = CaptureProcess(self._fallback.source)
        if self._resting:
            self._capture.rest(True)
        self._changed = time.monotonic()
        self._checksum = None
        # A reopened camera counts from 0 again, but the stream's numbers continue.
        self._numbers_before = self._last_number + 1

    def _take_facts(self, capture: CaptureProcess) -> None:
        """Copy what is known only once the source is open."""
        for name in ("rate", "skipped", "mode", "as_asked"):
            setattr(self, name, getattr(capture, name))
        if capture.ends and self._source.policy != "latest":
            self.policy = "all"

    def _give_up_at(self, capture: CaptureProcess) -> float:
        if capture.waiting or capture.ends:
            return float("inf")
        return capture.quiet_since + (
            self._timeout_s if self._checksum is not None else max(self._timeout_s, OPEN_TIMEOUT_S)
        )

    def _read_or_lose(self, capture: CaptureProcess, timeout_s: float) -> Optional[Frame]:
        try:
            frame = capture.read(max(0.0, timeout_s))
            now = time.monotonic()
            if frame is not None:
                return self._accept(capture, frame, now)
            if now >= self._give_up_at(capture):
                raise CameraLost(capture.silence(now - capture.quiet_since))
        except CameraError as error:
            if isinstance(error, (EndOfStream, IncompleteFilm, SourceError)) or capture.ends:
                self._take_facts(capture)
                raise
            failed_in_hardware = self._fallback.after(capture, str(error))
            if failed_in_hardware and not capture.opened:
                self._stop()
                return None
            self._lose(str(error))
        if self._capture is not None and self._capture.waiting and self.state == "live":
            # The process keeps running: it waits for the source, and opens it once it is available.
            self._report_lost(self._capture.why_waiting())
        return None

    def _accept(self, capture: CaptureProcess, frame: Frame, now: float) -> Frame:
        if self._checksum is None:
            self._take_facts(capture)
            self._fallback.settle()
        if not capture.ends:
            self._check_frozen(frame, now, 0.0 if capture.still else FROZEN_S)
        if self.state == "lost":
            self.state = "live"
            _log.warning("%s is %s", self._source.name, "available" if self._last_number < 0 else "back")
        self._pause_s = FIRST_PAUSE_S
        self.dropped = self._dropped_before + capture.dropped
        self.rested = self._rested_before + capture.rested
        self._last_number = frame.number + self._numbers_before
        return frame._replace(number=self._last_number)

    def _check_frozen(self, frame: Frame, now: float, default_s: float) -> None:
        """Raise CameraLost if the image has been the same for too long."""
        import numpy as np

        limit_s = default_s if self._frozen_s is None else self._frozen_s
        checksum = zlib.crc32(np.ascontiguousarray(frame.image[::_FROZEN_STEP, ::_FROZEN_STEP]).data)
        if checksum != self._checksum:
            self._checksum, self._changed = checksum, now
        elif limit_s and now - self._changed > limit_s:
            raise CameraLost("{} has sent the same image for {:.1f} s".format(self._source.name, now - self._changed))

    def _lose(self, reason: str) -> None:
        self._stop()
        self._next_start = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._report_lost(reason)

    def _report_lost(self, reason: str) -> None:
        _log.warning("camera lost: %s", reason)
        if self.state == "live":
            self.state, self.losses = "lost", self.losses + 1
            raise CameraLost(reason)

    def _stop(self) -> None:
        if self._capture is not None:
            self._dropped_before += self._capture.dropped
            self._rested_before += self._capture.rested
            self._capture.close()
            self._capture = None

    def rest(self, resting: bool) -> None:
        """See Camera.rest(); a camera that is opened again rests, too."""
        self._resting = resting
        if self._capture is not None:
            self._capture.rest(resting)

    def close(self) -> None:
        """End the process; a second call does nothing."""
        self._stop()
