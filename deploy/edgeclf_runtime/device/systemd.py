"""Tells systemd how the service is: ready, alive, busy, stopping.

The protocol is a datagram to the socket that NOTIFY_SOCKET names (man sd_notify); outside of
systemd nothing happens.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from typing import List

from ..text.redaction import redact
from ..text.terminal import printable

# systemd drops a datagram of more than 4096 bytes, READY=1 in it too.
_LONGEST = 1000
_BUSY_EVERY_S = 5.0  # at most, between two signs of life of something that takes long
_AFTERWARDS_S = 15.0  # what a call whose time is limited may take to say that the limit has passed


class Notifier:
    """Speaks to systemd on behalf of a loop.

    alive() is cheap: it may be called for every frame, and speaks at most twice in the
    watchdog's time (WATCHDOG_USEC).
    """

    def __init__(self, environment=None):
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog = environment.get("WATCHDOG_USEC", "") if ours else ""
        self._every_s = int(watchdog) / 2e6 if watchdog.isdecimal() and int(watchdog) else None
        self._next = 0.0
        self._status = ""
        self._busy = 0  # blocks of busy() that are under way
        self._busy_until = 0.0
        self._lock = threading.Lock()

    def ready(self, status):
        """Say that it works, with a line for ``systemctl status``."""
        self._status = status
        self._send("READY=1\n" + _status(status))

    def status(self, status):
        """Change the line for ``systemctl status``."""
        self._status = status
        self._send(_status(status))

    def alive(self):
        """Say that the loop goes on, where a watchdog wants to hear it."""
        now = time.monotonic()
        if self._every_s is not None and now >= self._next:
            self._next = now + self._every_s
            self._send("WATCHDOG=1")

    @contextlib.contextmanager
    def busy(self, limit_s, words):
        """Say, while the block lasts, that this is work and no hang: for ``limit_s`` at most, or as progress() says.

        words       what is done, for ``systemctl status``
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
            # Takes back what the watchdog was extended by.
            self._watchdog()
            if before and self._status == words:  # which a camera's loss may have changed
                self.status(before)

    def progress(self, limit_s):
        """Say that what is done next in a block of busy() takes ``limit_s`` at most."""
        with self._lock:
            if self._busy:
                self._busy_until = max(self._busy_until, time.monotonic() + limit_s + _AFTERWARDS_S)

    def _stay_busy(self, done):
        while not done.wait(min(self._every_s or _BUSY_EVERY_S, _BUSY_EVERY_S)):
            if time.monotonic() > self._busy_until:
                return
            self._still_busy()

    def _still_busy(self):
        self._watchdog()
        # For the start's limit.  It is for a library, too, that keeps this process's other threads from running.
        left_s = max(self._busy_until - time.monotonic(), 0)
        self._send("EXTEND_TIMEOUT_USEC={:.0f}".format(left_s * 1e6))

    def _watchdog(self):
        if self._every_s is not None:
            self._send("WATCHDOG=1")

    def stopping(self):
        """Say that it ends in order."""
        self._send("STOPPING=1")

    def _send(self, text):
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
                link.connect(self._address)
                link.sendall(text.encode())
        except OSError:
            pass  # systemd has gone; it is not for a camera to fall over that


def _status(text):
    """Return the assignment of the status line: one line, since each line of the datagram is a command to systemd."""
    return "STATUS={}".format(printable(redact(str(text)))[:_LONGEST])


def is_service(environment=None):
    """Return whether systemd started this process.

    A desktop's terminals and a service's children inherit INVOCATION_ID, so it counts only where systemd's later
    SYSTEMD_EXEC_PID (from 248 on) names this process or the shell that started it, or where there is no terminal.
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


# The one that speaks for this process: of ``run``.  A program that uses the library speaks to systemd itself.
_speaking: List[Notifier] = []


@contextlib.contextmanager
def speaking(notifier):
    """Let busy() and progress() of this module be a Notifier's inside the block."""
    _speaking.append(notifier)
    try:
        yield notifier
    finally:
        _speaking.remove(notifier)


@contextlib.contextmanager
def busy(limit_s, words):
    """Notifier.busy() where one speaks for this process."""
    if not _speaking:
        yield
        return
    with _speaking[-1].busy(limit_s, words):
        yield


def progress(limit_s):
    """Notifier.progress() where one speaks for this process."""
    if _speaking:
        _speaking[-1].progress(limit_s)
