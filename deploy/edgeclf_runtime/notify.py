"""Telling systemd how the service is: ready, alive, stopping.

The protocol is a datagram to the socket that NOTIFY_SOCKET names (man sd_notify); outside of
systemd nothing happens.
"""

import os
import socket
import time

from .redaction import redact
from .terminal import printable

# systemd drops a datagram of more than 4096 bytes, READY=1 in it too.
_LONGEST = 1000


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
        self._every_s = int(watchdog) / 2e6 if watchdog.isdecimal() else None
        self._next = 0.0

    def ready(self, status):
        """Say that it works, with a line for ``systemctl status``."""
        self._send("READY=1\n" + _status(status))

    def status(self, status):
        """Change the line for ``systemctl status``."""
        self._send(_status(status))

    def alive(self):
        """Say that the loop goes on, where a watchdog wants to hear it."""
        now = time.monotonic()
        if self._every_s is not None and now >= self._next:
            self._next = now + self._every_s
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
