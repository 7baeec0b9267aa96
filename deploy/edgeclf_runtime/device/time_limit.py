"""Limits the time of a call into a library that may never return: a GPU that failed, an endless loop in a model."""

import threading
from typing import Callable, Generic, Optional, Tuple, TypeVar, cast

from ..errors import BackendError
from . import systemd

_T = TypeVar("_T")


class Hung(BackendError):  # noqa: N818 - as EndOfStream
    """A call did not return in time.  Its thread keeps running; what it uses must not be closed."""


def within(
    timeout_s: float,
    name: str,
    function: Callable[..., _T],
    *arguments: object,
    late: Optional[Callable[[Optional[_T]], None]] = None,
) -> _T:
    """Return the result of ``function(*arguments)``, or raise its exception; raise Hung after ``timeout_s`` seconds.

    name    what is called, for the error message
    late    called with the result (None if it raised) when no one waits for it anymore, to close it

    The call runs in its own thread, so that signals still reach the caller.
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
    return cast(_T, call.found)


class _Call(Generic[_T]):
    """A call in a thread, and whether anyone still waits for it."""

    def __init__(
        self,
        function: Callable[..., _T],
        arguments: Tuple[object, ...],
        late: Optional[Callable[[Optional[_T]], None]],
    ) -> None:
        self._function, self._arguments, self._late = function, arguments, late
        self._ending = threading.Lock()
        self._ended = self._left = False
        self.found: Optional[_T] = None
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        try:
            self.found = self._function(*self._arguments)
        except BaseException as error:
            self.error = error
        with self._ending:
            self._ended = True
        if self._left:
            self.clear_up()

    def leave(self) -> bool:
        """Stop waiting; return whether the call is still running and must clear up by itself."""
        with self._ending:
            self._left = not self._ended
        return self._left

    def clear_up(self) -> None:
        if self._late is not None:
            self._late(self.found)
