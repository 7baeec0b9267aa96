"""Frames from a process of its own, which can be killed when its camera hangs.

The other side is ``capture_main.py``.  A frame's pixels are not copied: they lie in memory that
both processes share, and their slot is used again when nobody holds the frame's image any more.
"""

import contextlib
import json
import mmap
import os
import select
import socket
import subprocess
import tempfile
import time
import weakref
from typing import Any, Set

from .capture_main import NEXT, SLOTS
from .credentials import child_environment
from .errors import CameraError, CameraLost, EndOfStream
from .frames import Camera, Frame
from .processes import runtime_command
from .sources import advice

_LENT = 3  # frames that may be held without a copy; the process needs the other slots
_KILL_TIMEOUT_S = 1.0
# A stream's first frame may take several seconds: an RTSP server sends it with the next key frame.
OPEN_TIMEOUT_S = 10.0


class CaptureProcess(Camera):
    """One opening of one Source.

    opened      whether the source was opened
    waiting     why it was not, while the process waits for the source to be there, else ""
    quiet_since ``time.monotonic()`` since when it has owed an answer
    """

    def __init__(self, source):
        self.policy = source.policy
        self.opened = False
        self.waiting = ""
        self.quiet_since = time.monotonic()
        self._source = source
        self._asked = False
        self._received = b""
        self._lent: Set[int] = set()
        self._pixels: Any = None
        self._link, theirs = socket.socketpair()
        self._memory = tempfile.TemporaryFile(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)  # noqa: SIM115
        handles = (theirs.fileno(), self._memory.fileno())
        # A session of its own: Ctrl-C is for the parent, which then closes this in order.
        self._process = subprocess.Popen(
            runtime_command("capture_main", *handles),
            pass_fds=handles,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env=child_environment(_QUIET_READERS),
        )
        theirs.close()
        self._link.sendall(json.dumps(source._asdict()).encode() + b"\n")

    def wait_opened(self):
        """See Camera.wait_opened(); a source that is not there counts as one that cannot be opened."""
        deadline = time.monotonic() + OPEN_TIMEOUT_S
        try:
            while not self.opened:
                if self._receive(deadline) is None:
                    raise CameraError(
                        "{} did not open within {:.0f} s: {}".format(
                            self._source.name, OPEN_TIMEOUT_S, advice(self._source)
                        )
                    )
                if self.waiting:
                    raise CameraError("{}: {}".format(self.waiting, advice(self._source)))
        except CameraError:
            self.close()
            raise
        return self

    def read(self, timeout_s=None):
        """Return the next Frame, or None after ``timeout_s``.

        Raises CameraLost where a live source stopped, EndOfStream at the end of a file, and
        CameraError where the source could not be opened.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._asked:
            self._send(NEXT)
            self._asked = True
            self.quiet_since = time.monotonic()
        while True:
            message = self._receive(deadline)
            if message is None:
                return None
            if "frame" in message:
                self._asked = False
                return self._frame(message)

    def _receive(self, deadline):
        """Return the process's next message, or None when the deadline has passed."""
        while b"\n" not in self._received:
            left = None if deadline is None else deadline - time.monotonic()
            if self._link.fileno() < 0:
                raise CameraError("{} was closed".format(self._source.name))
            if not select.select([self._link], [], [], None if left is None else max(left, 0))[0]:
                return None
            try:
                data = self._link.recv(65536)
            except OSError:
                data = b""
            if not data:
                raise self._lost("the capture process ended{}".format(self._exit_status()))
            self._received += data
        self.quiet_since = time.monotonic()
        line, _, self._received = self._received.partition(b"\n")
        message = json.loads(line.decode())
        if "error" in message:
            raise self._lost(message["error"])
        if "end" in message:
            raise EndOfStream(message["end"])
        self.opened = self.opened or "opened" in message
        self.waiting = message.get("waiting", "")
        self.rate = message.get("rate", self.rate)
        return message

    def _lost(self, reason):
        return CameraLost(reason) if self.opened and self._source.live else CameraError(reason)

    def _exit_status(self):
        try:
            code = self._process.wait(_KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return ""
        return " by signal {}".format(-code) if code < 0 else " with exit status {}".format(code)

    def _frame(self, message):
        import numpy as np

        shape, slot = tuple(message["shape"]), message["frame"]
        size = int(np.prod(shape))
        if self._pixels is None:
            self._pixels = mmap.mmap(self._memory.fileno(), SLOTS * size)
        image = np.frombuffer(self._pixels, np.uint8, size, slot * size).reshape(shape)
        if len(self._lent) >= _LENT:
            image = image.copy()
            self._send(slot)
        else:
            self._lent.add(slot)
            # Every view of the image holds the array that frombuffer made, its base.
            weakref.finalize(image.base, self._release, slot).atexit = False
        self.dropped = message["dropped"]
        return Frame(image, message["number"], message["captured_at"], message["captured"], message["capture_ms"], "")

    def _release(self, slot):
        self._lent.discard(slot)
        self._send(slot)

    def _send(self, command):
        # Where it has gone, the next _receive() says so.
        with contextlib.suppress(OSError):
            self._link.send(bytes([command]))

    def close(self):
        """Kill the process; a second call does nothing."""
        if self._link.fileno() < 0:
            return
        self._link.close()
        self._memory.close()
        self._process.kill()
        # Inside a driver not even a kill takes effect; subprocess collects it when it has ended.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_TIMEOUT_S)


# What FFmpeg and OpenCV say of every lost packet would fill the log; the loss itself is reported.
_QUIET_READERS = {"OPENCV_FFMPEG_LOGLEVEL": "-8", "OPENCV_LOG_LEVEL": "ERROR"}
