"""Ends a program on SIGTERM, SIGHUP and SIGINT, also while native code hangs.

Python runs a signal's handler only when the main thread is back from native code: never, if a GPU fell off in the
middle of an inference.  But C code writes the signal's number to a pipe at once (``signal.set_wakeup_fd``); a thread
reads it, and ends the program if that does not end by itself.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
import weakref
from typing import Any, List

# After the signal: until the program must have begun to end, and until it must have ended (a video is finished then).
BEGIN_S, END_S = 1.5, 8.0
_LOOK_EVERY_S = 0.05
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# Where a handler must not raise: files and functions.
_MIDDLE = (
    ("threading.py", "notify"),
    ("weakref.py", "__call__"),
    ("weakref.py", "remove"),
    ("_weakrefset.py", "_remove"),
)
# Threads that wait in Python for work, and end with the program.
_IDLE = ("starter", "stopping")


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP: the terminal was closed.

    exit_code   of a program that it ended, as a shell reports it
    """

    def __init__(self, number=signal.SIGTERM):
        super().__init__()
        self.exit_code = 128 + number


class Interrupted(KeyboardInterrupt):
    """SIGINT: Ctrl-C.  (Unlike a KeyboardInterrupt it can be watched by a weak reference.)"""


@contextlib.contextmanager
def stoppable():
    """Raise Terminated for SIGTERM and SIGHUP, KeyboardInterrupt for SIGINT, inside the block; end the program if that fails.

    What was raised where exceptions are dropped is raised again.  Signals that the program was started to ignore stay
    ignored.  For the main thread; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Lists, not Events: a second signal would find a lock taken.
    begun: List[int] = []
    again: List[int] = []
    raised: List[Any] = []
    readable, writable = os.pipe()
    os.set_blocking(writable, False)

    def handle(number, frame):
        if _in_the_middle(frame):
            again.append(number)
            return
        begun.append(number)
        raise watched(Interrupted() if number == signal.SIGINT else Terminated(number), number)

    def watched(error, number):
        # If it is gone before the block is left, somebody dropped it.  (No name in handle() may keep it alive.)
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
        os.close(writable)  # the thread ends, and closes its end


def _in_the_middle(frame):
    """Whether what a handler raises now would be lost, or break a Condition for good.

    A finalizer's and a ``__del__``'s exceptions are printed and dropped.  Before Python 3.10.5, one between a waiter's
    release and its removal, in ``notify()``, leaves a waiter that no later ``notify()`` can release (CPython's issue
    92530); Events and queues notify by Conditions, too.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or (os.path.basename(code.co_filename), code.co_name) in _MIDDLE:
            return True
        frame = frame.f_back
    return False


def _watch(readable, numbers, begun, again):
    """End the program after a signal, unless it begins to end in time and leaves the block, which closes the pipe.

    Signals that are in ``again`` are sent again: nothing has begun by them.
    """
    with os.fdopen(readable, "rb", buffering=0) as stream:
        number = next((data[0] for data in iter(lambda: stream.read(1), b"") if data[0] in numbers), None)
        came = time.monotonic()
        while number is not None:
            waited = time.monotonic() - came
            if waited > END_S or (waited > BEGIN_S and not begun):
                with contextlib.suppress(OSError):
                    os.write(2, b"error: a call into a library does not return; the program was ended all the same\n")
                os._exit(128 + number)
            if select.select([stream], [], [], _LOOK_EVERY_S)[0] and not stream.read(64):
                return
            if again:
                del begun[:], again[:]
                os.kill(os.getpid(), number)


def leave(code):
    """End the program with an exit code, or a message: at once if a thread hangs in native code."""
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
