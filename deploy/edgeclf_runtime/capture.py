"""Frames from a process of its own, which can be killed when its camera hangs.

The other side is ``capture_main.py``.  A frame's pixels are not copied: they lie in memory that
both processes share, and their slot is used again when nobody holds the frame's image any more.
"""

import contextlib
import json
import logging
import os
import select
import socket
import subprocess
import time
import weakref
from typing import Any, List, Set

from .capture_main import NEXT, SLOTS
from .capture_messages import Messages
from .errors import CameraError, CameraLost, EndOfStream
from .frame_memory import FrameMemory
from .frames import Camera, Frame
from .processes import start_child
from .sources import advice
from .terminal import relay

_LENT = 3  # frames that may be held without a copy; the process needs the other slots
_ASK_TIMEOUT_S, _KILL_TIMEOUT_S = 1.0, 1.0
_log = logging.getLogger(__name__)
# A stream's first frame may take several seconds: an RTSP server sends it with the next key frame.
OPEN_TIMEOUT_S = 10.0


class CaptureProcess(Camera):
    """One opening of one Source.

    opened      whether the source was opened
    waiting     why it was not, while the process waits for the source to be there, else ""
    quiet_since ``time.monotonic()`` since when it has owed an answer
    confined    names of what keeps its decoders from the rest of the machine, see sandbox.py
    """

    def __init__(self, source):
        self.policy = source.policy
        self.opened = False
        self.waiting = ""
        self.quiet_since = time.monotonic()
        self._source = source
        self.confined: List[str] = []
        self._asked = False
        self._messages = Messages(SLOTS)
        self._lent: Set[int] = set()
        self._pixels: Any = None
        self._link, theirs = socket.socketpair()
        self._memory = FrameMemory()
        # A session of its own: Ctrl-C is for the parent, which then closes this in order.
        self._process = start_child(
            "capture_main",
            theirs.fileno(),
            self._memory.fileno(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=_environment(),
        )
        relay(self._process.stderr)
        theirs.close()
        with contextlib.suppress(OSError):  # where it has gone, _receive() says so
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
        message = None
        try:
            message = self._messages.next(self._asked)
            while message is None:
                data = self._wait(deadline)
                if data is None:
                    return None
                self._messages.feed(data)
                message = self._messages.next(self._asked)
        except ValueError as error:
            self._kill()
            raise self._lost("the capture process of {} sent {}".format(self._source.name, error))
        self.quiet_since = time.monotonic()
        if "error" in message:
            raise self._lost(message["error"])
        if "end" in message:
            raise EndOfStream(message["end"])
        if "opened" in message:
            self.opened, self.rate, self.confined = True, message["rate"], message["confined"]
            _log.debug("%s is read with: %s", self._source.name, ", ".join(self.confined) or "all rights")
        self.waiting = message.get("waiting", "")
        return message

    def _wait(self, deadline):
        """Return bytes that the process sent, or None when the deadline has passed."""
        left = None if deadline is None else deadline - time.monotonic()
        if self._link.fileno() < 0:
            raise CameraError("{} was closed".format(self._source.name))
        poll = select.poll()  # select() knows 1024 handles
        poll.register(self._link, select.POLLIN)
        if not poll.poll(None if left is None else max(left, 0) * 1e3):
            return None
        try:
            data = self._link.recv(65536)
        except OSError:
            data = b""
        if not data:
            raise self._lost("the capture process ended{}".format(self._exit_status()))
        return data

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
        size = shape[0] * shape[1] * shape[2]
        try:
            if slot in self._lent:
                raise ValueError("a frame in slot {}, which it has lent".format(slot))
            if self._pixels is None:
                self._pixels = self._memory.open(SLOTS * size)
        except ValueError as error:
            self._kill()
            raise self._lost("the capture process of {} sent a frame: {}".format(self._source.name, error))
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
        """Ask the process to close its source and end, and kill it if it does not; a second call does nothing."""
        if self._link.fileno() < 0:
            return
        # The end of the link asks; what it may take to stop a camera is bounded by the process itself, too.
        self._link.close()
        self._memory.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ASK_TIMEOUT_S)
        self._kill()

    def _kill(self):
        self._process.kill()
        # Inside a driver not even a kill takes effect; subprocess collects it when it has ended.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_TIMEOUT_S)


# What FFmpeg and OpenCV say of every lost packet would fill the log; the loss itself is reported.
_QUIET_READERS = {"OPENCV_FFMPEG_LOGLEVEL": "-8", "OPENCV_LOG_LEVEL": "ERROR"}
# Nothing is computed there: each of numpy's threads would take memory, and be outside of what confines the others.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# Variables that libraries, drivers and GStreamer read; others can hold passwords, which decoders need not see.
_PASSED_ON = (
    *("PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"),
    *("LC_", "LD_", "XDG_", "OPENCV_", "OPENBLAS_", "OMP_", "MKL_", "GOMP_", "KMP_", "GST_", "GI_", "ORC_", "GLIBC_"),
    *("EGL_", "GBM_", "__EGL", "__GL", "NV", "CUDA_", "TEGRA", "ARGUS", "LIBV4L", "V4L", "LIBVA", "VDPAU", "DBUS_"),
    *("SSL_CERT_", "MALLOC_", "RES_OPTIONS", "LOCALDOMAIN", "QEMU_", "PULSE_", "ALSA_", "GENICAM_", "ASAN_", "UBSAN_"),
)


def _environment():
    """Return the environment of the capture process."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    return {**_QUIET_READERS, **passed, **_ONE_THREAD}
