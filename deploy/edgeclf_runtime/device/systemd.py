"""Reports the service's state to systemd: ready, alive, busy, stopping.

Each report is a datagram to the socket in NOTIFY_SOCKET (man sd_notify).  Outside of systemd nothing happens.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from typing import Iterator, List, Mapping, Optional

from ..text.redaction import redact
from ..text.terminal import printable

# systemd drops datagrams of more than 4096 bytes, including their READY=1.
_LONGEST = 1000
_BUSY_EVERY_S = 5.0  # longest interval between two signs of life during long work
_AFTERWARDS_S = 15.0  # time for a limited call to report that its limit has passed


class Notifier:
    """Reports to systemd on behalf of a loop.

    alive() is cheap and can be called for every frame: it sends at most two reports per watchdog interval (WATCHDOG_USEC).
    """

    def __init__(self, environment: Optional[Mapping[str, str]] = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog = environment.get("WATCHDOG_USEC", "") if ours else ""
        self._every_s = int(watchdog) / 2e6 if watchdog.isdecimal() and int(watchdog) else None
        self._next = 0.0
        self._status = ""
        self._busy = 0  # active busy() blocks
        self._busy_until = 0.0
        self._lock = threading.Lock()

    def ready(self, status: str) -> None:
        """Report that the service is ready, with a line for ``systemctl status``."""
        self._status = status
        self._send("READY=1\n" + _status(status))

    def reloading(self) -> None:
        """Report that the configuration is read again; ready() ends that."""
        self._send("RELOADING=1\nMONOTONIC_USEC={:.0f}".format(time.monotonic() * 1e6))

    def status(self, status: str) -> None:
        """Change the line for ``systemctl status``."""
        self._status = status
        self._send(_status(status))

    def alive(self) -> None:
        """Report that the loop is running, if a watchdog expects it."""
        now = time.monotonic()
        if self._every_s is not None and now >= self._next:
            self._next = now + self._every_s
            self._send("WATCHDOG=1")

    @contextlib.contextmanager
    def busy(self, limit_s: float, words: str) -> Iterator[None]:
        """During the block, report that this is work and not a hang: for at most ``limit_s``, or until progress()'s limit.

        words       a description for ``systemctl status``
        """
        if not self._address:
            yield
            return
        before, done = self._status, threading.Event()
        with self._lock:
            self._busy += 1
        self.progress(limit_s)
        self.status(words)
        self._still_busy()
        thread = threading.Thread(target=self._stay_busy, args=(done,), name="busy", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            with self._lock:
                self._busy -= 1
                self._busy_until *= bool(self._busy)
            # Ends the watchdog's extension.
            self._watchdog()
            if before and self._status == words:  # a lost camera may have changed it
                self.status(before)

    def progress(self, limit_s: float) -> None:
        """Report that the next step in a busy() block takes at most ``limit_s``."""
        with self._lock:
            if self._busy:
                self._busy_until = max(self._busy_until, time.monotonic() + limit_s + _AFTERWARDS_S)

    def _stay_busy(self, done: threading.Event) -> None:
        while not done.wait(min(self._every_s or _BUSY_EVERY_S, _BUSY_EVERY_S)):
            if time.monotonic() > self._busy_until:
                return
            self._still_busy()

    def _still_busy(self) -> None:
        self._watchdog()
        # For the start timeout.  It also covers a library that keeps this process's other threads from running.
        left_s = max(self._busy_until - time.monotonic(), 0)
        self._send("EXTEND_TIMEOUT_USEC={:.0f}".format(left_s * 1e6))

    def _watchdog(self) -> None:
        if self._every_s is not None:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report an orderly end."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.connect(self._address)
                link.sendall(text.encode())
        except OSError:
            pass  # systemd has ended; the camera continues


def _status(text: str) -> str:
    """Return the status line's assignment, as one line: each line of the datagram is a command to systemd."""
    return "STATUS={}".format(printable(redact(str(text)))[:_LONGEST])


def is_service(environment: Optional[Mapping[str, str]] = None) -> bool:
    """Return whether systemd started this process.

    A desktop's terminals and a service's children inherit INVOCATION_ID.  It counts only if SYSTEMD_EXEC_PID (systemd 248
    and later) names this process or the shell that started it, or if there is no terminal.
    """
    environment = os.environ if environment is None else environment
    if environment.get("NOTIFY_SOCKET"):
        return True
    if not environment.get("INVOCATION_ID"):
        return False
    started = environment.get("SYSTEMD_EXEC_PID", "")
    if started:
        return started in (str(os.getpid()), str(os.getppid()))
    return sys.stdin is None or not sys.stdin.isatty()


# The Notifier of ``run``.  A program that uses the library reports to systemd itself.
_speaking: List[Notifier] = []


@contextlib.contextmanager
def speaking(notifier: Notifier) -> Iterator[Notifier]:
    """Make this module's busy() and progress() use a Notifier within the block."""
    _speaking.append(notifier)
    try:
        yield notifier
    finally:
        _speaking.remove(notifier)


@contextlib.contextmanager
def busy(limit_s: float, words: str) -> Iterator[None]:
    """Call Notifier.busy() if this process has a Notifier."""
    if not _speaking:
        yield
        return
    with _speaking[-1].busy(limit_s, words):
        yield


def progress(limit_s: float) -> None:
    """Call Notifier.progress() if this process has a Notifier."""
    if _speaking:
        _speaking[-1].progress(limit_s)
