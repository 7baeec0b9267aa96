"""Reads frames from a process of its own, which is killed if its camera hangs.

The other side is ``capture/child.py``.  A frame's pixels are not copied: they lie in memory that both processes share,
and their slot is used again once nobody holds the frame's image any more.
"""

import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import time
import weakref
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Set

from ..device.cgroups import memory_limit
from ..device.child_process import start_child
from ..errors import CameraError, CameraLost, EndOfStream, IncompleteFilm, SourceError
from ..images.frame import Frame
from .camera import Camera
from .child import NEXT, REST, SLOTS, WAKE
from .diagnosis import diagnosis
from .frame_memory import FrameMemory
from .hardware.decoders import NAME
from .messages import Message, Messages
from .reader_log import LEVELS, ReaderLog

if TYPE_CHECKING:
    import mmap

    from .source import Source

_LENT = 3  # frames that may be held without a copy; the process needs the other slots
_ASK_TIMEOUT_S, _KILL_TIMEOUT_S = 1.0, 1.0
_JOIN_TIMEOUT_S = 0.2
_RECENT_S = 5.0  # lines that a reader printed earlier do not explain a loss
_log = logging.getLogger(__name__)
# A stream's first frame may take several seconds: an RTSP server sends it with the next key frame.
OPEN_TIMEOUT_S = 10.0
# A file on disk takes long only on a busy machine; one by HTTP may have to be downloaded before it can be read.
VIDEO_FILE_TIMEOUT_S = 60.0


class CaptureProcess(Camera):
    """One opening of one Source.

    opened      whether the source was opened
    ends, still as reported by its reader, see readers.base.Reader
    waiting     "NAME is not available" while the process waits for the source, else ""
    quiet_since ``time.monotonic()`` since when it has not answered
    decoder     the name of the hardware's decoder that it uses or tries; "" for software
    confined    names of the restrictions on its decoders, see capture/sandbox/confine.py
    """

    def __init__(self, source: "Source") -> None:
        self.name, self.policy = source.name, source.policy
        self.opened = self.ends = self.still = False
        self.waiting = self._why_waiting = ""
        self.quiet_since = time.monotonic()
        self._source = source
        self.confined: List[str] = []
        self.decoder = ""
        self._unfit = self._crashed = False
        self._asked = False
        self._last: Optional[CameraError] = None  # the error that it ended with
        self._messages = Messages(SLOTS)
        self._lent: Set[int] = set()
        self._pixels: "Optional[mmap.mmap]" = None
        self._memory = FrameMemory()
        self._link, theirs = socket.socketpair()
        # In its own session: Ctrl-C must reach only the parent, which then closes the source.
        self._process = start_child(
            "capture.child",
            theirs.fileno(),
            *self._memory.handles,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=_environment(),
        )
        assert self._process.stderr is not None  # a pipe was requested
        self._log = ReaderLog(self._process.stderr, _without_location(source))
        theirs.close()
        with contextlib.suppress(OSError):  # if the process has died, _receive() reports it
            self._link.sendall(json.dumps(source._asdict()).encode() + b"\n")
        # Also stops the camera properly if the program ends without calling close().
        self._finalizer = weakref.finalize(self, _end, self._link, self._process, os.getpid())

    def wait_opened(self) -> "CaptureProcess":
        """See Camera.wait_opened(); an unavailable source counts as one that cannot be opened."""
        timeout_s = VIDEO_FILE_TIMEOUT_S if self._source.by_http or not self._source.live else OPEN_TIMEOUT_S
        deadline = time.monotonic() + timeout_s
        try:
            while not self.opened:
                if self._receive(deadline) is None:
                    raise CameraError(self.silence(timeout_s))
                if self.waiting:
                    raise CameraError(self.why_waiting())
        except CameraError:
            self.close()
            raise
        return self

    def read(self, timeout_s: Optional[float] = None) -> Optional[Frame]:
        """Return the next Frame, or None after ``timeout_s``.

        Raises CameraLost if a live source stopped, EndOfStream at the end of a video file, IncompleteFilm if that comes too
        soon, and CameraError if the source could not be opened.
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

    def _receive(self, deadline: Optional[float]) -> Optional[Message]:
        """Return the process's next message, or None when the deadline has passed."""
        if self._last is not None:
            raise self._last
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
        self._last = self._failure(message)
        if self._last is not None:
            raise self._last
        self.decoder = message.get("decoder", self.decoder)
        if "opened" in message:
            self._take_facts(message)
        self.waiting, self._why_waiting = message.get("waiting", ""), message.get("why", "")
        return message

    def _take_facts(self, message: Message) -> None:
        self.opened = True
        for name in ("rate", "confined", "ends", "still", "as_asked"):
            setattr(self, name, message[name])
        self.mode = message["granted"]
        for note in message["notes"]:
            _log.warning("%s", note)
        rate = "" if self.rate is None else ", {:g} frames per second".format(self.rate)
        _log.info("%s is open%s", self.name, rate)
        if self.decoder:
            _log.info("%s is decoded in hardware by %s", self.name, self.decoder)
        _log.debug("the process that reads %s is confined by: %s", self.name, ", ".join(self.confined) or "nothing")
        if self.mode:
            _log.log(logging.INFO if self.as_asked else logging.WARNING, "%s: %s", self.name, self.mode)

    def _failure(self, message: Message) -> Optional[CameraError]:
        """Return the error that the process's last message stands for, or None."""
        self.skipped += message.get("unreadable", 0)
        if "refused" in message:
            return SourceError(message["refused"])
        if "error" in message:
            return self._lost(message["error"])
        if "unfit" in message:
            self._unfit = True
            return self._lost(self._in_hardware(message["unfit"]))
        if "failed" in message:
            return self._lost(self._explained(message["failed"], message["probed"]))
        if "incomplete" in message:
            return IncompleteFilm(message["incomplete"])
        if message.get("unreadable"):
            _log.warning("%s", message["end"])
        return EndOfStream(message["end"]) if "end" in message else None

    def _explained(self, what: str, probed: str) -> str:
        """Return what failed: while opening, with everything the reader printed and advice; after that, with its recent lines."""
        if self.decoder:
            return self._in_hardware(what)
        if not self.opened:
            said = self._log.said() or ["it " + probed] * bool(probed)
            return "{}: {}".format(what, diagnosis(self._source, said, what))
        return self._quoted(what)

    def silence(self, seconds: float) -> str:
        """Return the message that nothing came for so long; before the source is open, with the reader's words and advice."""
        if self.opened:
            what = "{} sent no frame for {:.1f} s".format(self._source.name, seconds)
            return self._in_hardware(what) if self.decoder_failed() else what
        if self.decoder:
            return self._in_hardware("{} did not open within {:.0f} s".format(self.name, seconds))
        said = diagnosis(self._source, self._log.said())
        return "{} did not open within {:.0f} s: {}".format(self.name, seconds, said)

    def decoder_failed(self) -> bool:
        """Return whether the hardware's decoder seems to be why the process failed."""
        return bool(self.decoder) and (not self.opened or self._unfit or self._crashed or self._log.blames(NAME))

    def _in_hardware(self, what: str) -> str:
        """Return what went wrong with the hardware's decoder, with the reader's words, and what to do if nothing else is tried."""
        said = self._quoted(what)
        return said if self._source.decode == "auto" else "{}; use --decode auto or --decode software".format(said)

    def why_waiting(self) -> str:
        """Return why the process waits for the source, and what to do."""
        said = [self._why_waiting] if self._source.kind == "network" else []
        return "{}: {}".format(self.waiting, diagnosis(self._source, said))

    def _wait(self, deadline: Optional[float]) -> Optional[bytes]:
        """Return bytes that the process sent, or None once the deadline has passed."""
        left = None if deadline is None else deadline - time.monotonic()
        if self._link.fileno() < 0:
            raise CameraError("{} was closed".format(self._source.name))
        poll = select.poll()  # select() is limited to 1024 handles
        poll.register(self._link, select.POLLIN)
        if not poll.poll(None if left is None else max(left, 0) * 1e3):
            return None
        try:
            data = self._link.recv(65536)
        except OSError:
            data = b""
        if not data:
            raise self._lost(self._quoted("the capture process ended{}".format(self._exit_status())))
        return data

    def _quoted(self, what: str) -> str:
        """Return what happened, followed by what the process printed just before."""
        said = self._log.said(_RECENT_S)
        return '{}: "{}"'.format(what, "; ".join(said)) if said else what

    def _lost(self, reason: str) -> CameraError:
        return CameraLost(reason) if self.opened and self._source.live and not self.ends else CameraError(reason)

    def _exit_status(self) -> str:
        try:
            code = self._process.wait(_KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return ""
        self._crashed = code < 0 and -code != signal.SIGKILL  # which is sent if memory runs out
        return " by signal {}{}".format(-code, _why(-code)) if code < 0 else " with exit status {}".format(code)

    def _frame(self, message: Message) -> Frame:
        import numpy as np

        shape, slot = tuple(message["shape"]), message["frame"]
        size = shape[0] * shape[1] * shape[2]
        try:
            if slot in self._lent:
                raise ValueError("a frame in slot {}, which is still in use".format(slot))
            if self._pixels is None:
                self._pixels = self._memory.open(SLOTS * size)
                _log.info("%s delivers frames of %d x %d", self.name, shape[1], shape[0])
        except ValueError as error:
            self._kill()
            raise self._lost("the capture process of {} sent a frame: {}".format(self._source.name, error))
        image = np.frombuffer(self._pixels, np.uint8, size, slot * size).reshape(shape)
        if len(self._lent) >= _LENT:
            image = image.copy()
            self._send(slot)
        else:
            self._lent.add(slot)
            # Every view of the image keeps its base alive, the array that frombuffer returned.
            weakref.finalize(image.base, self._release, slot).atexit = False
        self.dropped, self.rested = message["dropped"], message["rested"]
        names = ("number", "captured_at", "captured", "capture_ms", "position_s")
        return Frame(image=image, name="", **{name: message[name] for name in names})

    def rest(self, resting: bool) -> None:
        """See Camera.rest()."""
        self._send(REST if resting else WAKE)

    def _release(self, slot: int) -> None:
        self._lent.discard(slot)
        self._send(slot)

    def _send(self, command: int) -> None:
        # If the process has died, the next _receive() reports it.
        with contextlib.suppress(OSError):
            self._link.send(bytes([command]))

    def close(self) -> None:
        """Tell the process to close its source and end, and kill it if it does not; a second call does nothing."""
        if self._link.fileno() < 0:
            return
        self._memory.close()
        self._finalizer()
        self._log.join(_JOIN_TIMEOUT_S)

    def _kill(self) -> None:
        _kill(self._process)


def _without_location(source: "Source") -> Callable[[str], str]:
    """Return a function that replaces a source's address, which may hold secrets, by its name in a text."""
    return lambda text: text.replace(source.location, source.name) if source.location else text


def _end(link: socket.socket, process: "subprocess.Popen[bytes]", parent: int) -> None:
    """Tell a process to close its source and end, and kill it if it does not.

    Killing comes second because a camera that was not closed can refuse to be opened again.
    """
    link.close()  # tells the process to end
    if os.getpid() != parent:
        return  # in a fork; the original process still reads
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ASK_TIMEOUT_S)
    _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    # A process stuck in a driver cannot even be killed; subprocess reaps it later.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_TIMEOUT_S)


def _why(number: int) -> str:
    """Return the likely reason for which the kernel sent a signal, and what to do, or ""."""
    limit = memory_limit()
    if number == signal.SIGKILL and limit is not None:
        return ": this container may use only {:.0f} MB of memory; start it with more (docker run --memory)".format(
            limit / 1e6
        )
    if number == signal.SIGBUS:
        return ": a disk or /dev/shm is full or damaged; in a container use docker run --shm-size=512m"
    return ""


# The process does not compute: numpy's threads would only take memory, and start before the restrictions apply.
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# Variables that libraries, drivers and GStreamer read.  Others can hold passwords, so decoders do not get them.
_PASSED_ON = (
    *("PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"),
    *("LC_", "LD_", "XDG_", "OPENCV_", "OPENBLAS_", "OMP_", "MKL_", "GOMP_", "KMP_", "GST_", "GI_", "ORC_", "GLIBC_"),
    *("EGL_", "GBM_", "__EGL", "__GL", "NV", "CUDA_", "TEGRA", "ARGUS", "LIBV4L", "V4L", "LIBVA", "VDPAU", "DBUS_"),
    *("SSL_CERT_", "MALLOC_", "RES_OPTIONS", "LOCALDOMAIN", "QEMU_", "PULSE_", "ALSA_", "GENICAM_", "ASAN_", "UBSAN_"),
)


def _environment() -> Dict[str, str]:
    """Return the environment for the capture process."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    return {**LEVELS, **passed, **_ONE_THREAD}
