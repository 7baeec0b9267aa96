"""Limits the time of a call into a library that may never return: a GPU that fell off, an endless loop in a model."""

import threading
from typing import Any, Optional

from ..errors import BackendError
from . import systemd


class Hung(BackendError):  # noqa: N818 - as EndOfStream
    """A call that did not return in time.  Its thread goes on; what it uses must not be closed."""


def within(timeout_s, name, function, *arguments, late=None):
    """Return what ``function(*arguments)`` returns, or raise what it raises; Hung after ``timeout_s`` seconds.

    name    what hangs, as the error calls it
    late    is called with what the call returns when nobody waits for it any more (None where it raises), to close it

    The call runs in a thread of its own, so that a signal reaches the caller meanwhile.
    """
    call = _Call(function, arguments, late)
    thread = threading.Thread(target=call.run, name="limited", daemon=True)
    try:
        thread.start()
        systemd.progress(timeout_s)
        thread.join(timeout_s)
    except BaseException:
        if not call.leave():
            call.clear_up()
        raise
    if thread.is_alive() and call.leave():
        raise Hung(
            "{} did not answer within {:g} s; restart the device if its GPU or driver hangs, or use another backend "
            "with --backend".format(name, timeout_s)
        )
    if call.error is not None:
        raise call.error
    return call.found


class _Call:
    """A call in a thread, and whether somebody still waits for it."""

    def __init__(self, function, arguments, late):
        self._function, self._arguments, self._late = function, arguments, late
        self._ending = threading.Lock()
        self._ended = self._left = False
        self.found: Any = None
        self.error: Optional[BaseException] = None

    def run(self):
        try:
            self.found = self._function(*self._arguments)
        except BaseException as error:
            self.error = error
        with self._ending:
            self._ended = True
        if self._left:
            self.clear_up()

    def leave(self):
        """Wait no longer; returns whether the call goes on, and is to clear up by itself."""
        with self._ending:
            self._left = not self._ended
        return self._left

    def clear_up(self):
        if self._late is not None:
            self._late(self.found)
