"""Ends a program on SIGTERM, SIGHUP and SIGINT, even if native code hangs.

Python runs a signal handler only after the main thread returns from native code, which is never if a GPU fails in the
middle of an inference.  But C code writes the signal's number to a pipe at once (``signal.set_wakeup_fd``).  A thread
reads it and ends the program if the program does not end by itself.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
import weakref
from types import FrameType
from typing import Callable, FrozenSet, Iterator, List, NoReturn, Optional, Tuple, Union

# Limits after the signal: to begin to end, and to have ended (which includes finishing a video).
BEGIN_S, END_S = 1.5, 8.0
_LOOK_EVERY_S = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# Files and functions in which a handler must not raise.
_MIDDLE = (
    ("threading.py", "notify"),
    ("weakref.py", "__call__"),
    ("weakref.py", "remove"),
    ("_weakrefset.py", "_remove"),
)
# Threads that wait in Python for work and end with the program.
_IDLE = ("starter", "stopping")
# What SIGHUP calls in place of ending the program, and the terminals that were open when it was asked to.
_hangups: "List[Tuple[Callable[[], object], List[int]]]" = []


def end_as_first_process() -> None:
    """Let SIGTERM and SIGHUP end the first process of a container, until stoppable() does.

    The kernel drops signals for which a first process has no handler, and a program imports for seconds before its first
    command.
    """
    if os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: os._exit(128 + number))


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP (the terminal was closed); see calling_on_hangup().

    exit_code   of the program, as a shell reports it
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.exit_code = 128 + number


class Interrupted(KeyboardInterrupt):
    """SIGINT: Ctrl-C.  Unlike KeyboardInterrupt, it supports weak references."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise Terminated on SIGTERM or SIGHUP, KeyboardInterrupt on SIGINT; end the program if the block does not end.

    An exception that was raised where exceptions are dropped is raised again.  Signals that the program was started to
    ignore stay ignored.  Only for the main thread; in other threads nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Lists, not Events: a second signal could find an Event's lock taken.
    begun: List[int] = []
    again: List[int] = []
    raised: "List[weakref.ref[BaseException]]" = []
    readable, writable = os.pipe()
    os.set_blocking(writable, False)

    def handle(number: int, frame: Optional[FrameType]) -> None:
        if not _ends(number):
            _hangups[-1][0]()
            return
        if _in_the_middle(frame):
            again.append(number)
            return
        begun.append(number)
        raise watched(Interrupted() if number == signal.SIGINT else Terminated(number), number)

    def watched(error: BaseException, number: int) -> BaseException:
        # If it disappears before the block ends, someone dropped it.  (No name in handle() may keep it alive.)
        raised.append(weakref.ref(error, lambda _: again.append(number)))
        return error

    numbers = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    wakeup = signal.set_wakeup_fd(writable)
    watch = threading.Thread(
        target=_watch, args=(readable, frozenset(numbers), begun, again), name="stopping", daemon=True
    )
    watch.start()
    try:
        yield
    finally:
        raised.clear()
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writable)  # the thread ends and closes its end


@contextlib.contextmanager
def calling_on_hangup(function: Callable[[], object]) -> Iterator[None]:
    """During the block, call a function on SIGHUP in place of ending the program, unless a terminal of the program was closed.

    The function runs between two instructions of the main thread, so it must not wait for anything.
    """
    _hangups.append((function, [number for number in range(3) if os.isatty(number)]))
    try:
        yield
    finally:
        _hangups.pop()


def _ends(number: int) -> bool:
    """Return whether a signal is to end the program."""
    return number != signal.SIGHUP or not _hangups or not all(map(os.isatty, _hangups[-1][1]))


def _in_the_middle(frame: Optional[FrameType]) -> bool:
    """Return whether an exception that a handler raises now would be lost, or would break a Condition for good.

    Exceptions of a finalizer or a ``__del__`` are printed and dropped.  Before Python 3.10.5, one between a waiter's
    release and its removal, in ``notify()``, leaves a waiter that no later ``notify()`` can release (CPython issue
    92530); Events and queues use Conditions, too.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or (os.path.basename(code.co_filename), code.co_name) in _MIDDLE:
            return True
        frame = frame.f_back
    return False


def _watch(readable: int, numbers: FrozenSet[int], begun: List[int], again: List[int]) -> None:
    """End the program after a signal, unless it begins to end in time and leaves the block, which closes the pipe.

    Signals in ``again`` are sent again, because their exceptions were lost.
    """
    with os.fdopen(readable, "rb", buffering=0) as stream:
        arrived = (data[0] for data in iter(lambda: stream.read(1), b""))
        number = next((one for one in arrived if one in numbers and _ends(one)), None)
        came = time.monotonic()
        while number is not None:
            waited = time.monotonic() - came
            if waited > END_S or (waited > BEGIN_S and not begun):
                with contextlib.suppress(OSError):
                    os.write(2, b"error: a call into a library does not return; the program was ended anyway\n")
                os._exit(128 + number)
            if select.select([stream], [], [], _LOOK_EVERY_S)[0] and not stream.read(64):
                return
            if again:
                del begun[:], again[:]
                os.kill(os.getpid(), number)


def leave(code: Union[int, str, None]) -> NoReturn:
    """End the program with an exit code or a message; at once if a thread hangs in native code."""
    others = set(threading.enumerate()) - {threading.current_thread()}
    if any(thread.name not in _IDLE for thread in others):
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code or 0)
    sys.exit(code)
