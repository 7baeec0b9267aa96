"""Collects what OpenCV, FFmpeg and GStreamer print to the capture process's stderr.

The last lines are kept, to explain why a camera does not work.  These libraries report every lost packet, so the lines
reach the log only if the user asked for them with one of the libraries' own variables.
"""

import collections
import os
import re
import select
import threading
import time
from typing import IO, Callable, Deque, Iterable, List, Optional, Tuple

from ..text.redaction import redact
from ..text.terminal import printable, show_message

# Variables by which a user asks for these lines.
_ASKED_BY = ("OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL", "OPENCV_FFMPEG_DEBUG", "GST_DEBUG", "OPENCV_VIDEOIO_DEBUG")
# Warnings of OpenCV (which include GStreamer's errors) and of GStreamer.  FFmpeg prints its errors by default; if
# OPENCV_FFMPEG_LOGLEVEL is set, OpenCV from 4.5.5 on prints them to stdout.
LEVELS = {"OPENCV_LOG_LEVEL": "WARNING", "GST_DEBUG": "2", "GST_DEBUG_NO_COLOR": "1"}
_KEPT, _SHOWN, _LONGEST, _LONGEST_LINE = 50, 3, 300, 1 << 13
_READ_AT_ONCE, _MOST_READS = 1 << 16, 16
# The prefixes of FFmpeg and OpenCV.
_CONTEXT = re.compile(
    r"\[(?:[\w,+#. -]+ @ 0x[0-9a-f]+|OPENCV:FFMPEG:\d+)\]\s*|"
    r"\[\s*(?:WARN|ERROR|INFO|DEBUG|FATAL)\s*:[^\]]*\]\s*(?:global )?\S*\s*(?:\(\d+\)|\S+:\d+)?\s*(?:\w+ )?"
    r"(?:OpenCV \| GStreamer warning: )?|OpenCV \| GStreamer warning: "
)
_GSTREAMER = re.compile(r"\d+:\d\d:\d\d\.\d+ +\d+ +0x[0-9a-f]+ (ERROR|WARN) +(\S+) [^:]*:\d+:[^:]*:(?:<[^>]*>)? ?(.*)")
_HALTED = re.compile(r"Embedded video playback halted; module \S+ reported: ")
# Consequences of an error that was already printed, and remarks.
_NOISE = re.compile(
    "unable to (?:start|query) pipeline|pipeline have not been created|Cannot query|unhandled property|can't be used to capture|"
    "GLib-GObject-WARNING|GStreamer-CRITICAL|Trying to dispose|explicitly set elements|dropping the final|refcounting|"
    "application or some element|Unable to open RTSP for listening|link has no s|Failed to start|streaming stopped|"
    "Internal data stream error|failed to open stream|can't get sdp|we are not connected|cannot find appsink|"
    r"unable to query duration|CAP_PROP_POS_MSEC|cap_ffmpeg|Option .* not found|VIDEOIO\("
)


class ReaderLog:
    """The lines in a pipe, without secrets; a thread reads them so that the writer never blocks.

    hide    function that removes private text, such as the source's address, besides the known secrets
    """

    def __init__(self, pipe: IO[bytes], hide: Callable[[str], str] = str) -> None:
        self._pipe, self._hide = pipe, hide
        self._loud = any(name in os.environ for name in _ASKED_BY)
        self._lines: Deque[Tuple[float, str]] = collections.deque(maxlen=_KEPT)
        self._rest = b""
        self._lock = threading.Lock()
        os.set_blocking(pipe.fileno(), False)
        self._thread = threading.Thread(target=self._run, name="stderr of a child", daemon=True)
        self._thread.start()

    def said(self, within_s: Optional[float] = None) -> List[str]:
        """Return the last lines that matter: at most three, in their order.

        within_s    leave out lines older than this
        """
        since = 0.0 if within_s is None else time.monotonic() - within_s
        with self._lock:
            self._read()
            lines = [line for at, line in self._lines if at >= since] + [self._decoded(self._rest)]
        return last_words(lines)

    def blames(self, name: str) -> bool:
        """Return whether GStreamer reported an error of an element whose name begins so."""
        error = re.compile(r"<{}\w*(?::\w+)?> ?error: ".format(re.escape(name)))
        with self._lock:
            self._read()
            return any(error.search(line) for _, line in self._lines)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        while True:
            poll.poll()
            with self._lock:
                if not self._read():
                    self._pipe.close()
                    return

    def join(self, timeout_s: float) -> None:
        """Wait until the writer has closed its end, but not longer than ``timeout_s``."""
        self._thread.join(timeout_s)

    def _read(self) -> bool:
        """Take what has arrived; returns whether more may follow."""
        for _ in range(_MOST_READS):  # bounded, because a writer may never stop
            if self._pipe.closed:
                return False
            try:
                data = os.read(self._pipe.fileno(), _READ_AT_ONCE)
            except BlockingIOError:
                return True
            if not data:
                return False
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[:_LONGEST_LINE]
            for line in lines:
                self._take(self._decoded(line))
        return True

    def _decoded(self, line: bytes) -> str:
        # Redact before the line is shortened: half a secret would not be recognized.
        return printable(redact(self._hide(line[:_LONGEST_LINE].decode("utf-8", "backslashreplace").rstrip())))

    def _take(self, line: str) -> None:
        self._lines.append((time.monotonic(), line))
        if self._loud:
            show_message(line)


def last_words(lines: Iterable[str]) -> List[str]:
    """Return the last lines that say what went wrong, without their prefixes, each once."""
    found: List[str] = []
    for line in lines:
        words = _words(line)
        if words and words not in found:
            found.append(words[:_LONGEST])
    return found[-_SHOWN:]


def _words(line: str) -> str:
    """Return what a line says about a fault, or ""."""
    traced = _GSTREAMER.match(line)
    if traced:
        level, category, line = traced.groups()
        if not line.startswith("error: ") and not (level == "ERROR" and category == "GST_PIPELINE"):
            return ""
        line = line[len("error: ") :] if line.startswith("error: ") else line
    line = _HALTED.sub("", _CONTEXT.sub("", line)).strip()
    return "" if _NOISE.search(line) else line
