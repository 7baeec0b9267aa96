"""Limits the time of a call into a library that may never return: a GPU that fell off, an endless loop in a model."""

import threading
from typing import Any, List

from .errors import BackendError


class Hung(BackendError):  # noqa: N818 - as EndOfStream
    """A call that did not return in time.  Its thread goes on; what it uses must not be closed."""


def within(timeout_s, name, function, *arguments):
    """Return what ``function(*arguments)`` returns, or raise what it raises; Hung after ``timeout_s`` seconds.

    name    what hangs, as the error calls it

    The call runs in a thread of its own, so that a signal reaches the caller meanwhile.
    """
    came: List[Any] = []
    failed: List[BaseException] = []

    def call():
        try:
            came.append(function(*arguments))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=call, name="limited", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if failed:
        raise failed[0]
    if not came:
        raise Hung(
            "{} did not answer within {:g} s; restart the device if its GPU or driver hangs, or use another backend "
            "with --backend".format(name, timeout_s)
        )
    return came[0]
