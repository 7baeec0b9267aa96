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

# After the signal: until the program must have begun to end, and until it must have ended (a video is finished then).
BEGIN_S, END_S = 1.5, 8.0
_LOOK_EVERY_S = 0.1
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# Threads that wait in Python for work, and end with the program.
_IDLE = ("starter", "stopping")


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP: the terminal was closed.

    exit_code   of a program that it ended, as a shell reports it
    """

    def __init__(self, number=signal.SIGTERM):
        super().__init__()
        self.exit_code = 128 + number


@contextlib.contextmanager
def stoppable():
    """Raise Terminated for SIGTERM and SIGHUP, KeyboardInterrupt for SIGINT, inside the block; end the program if that fails.

    Signals that the program was started to ignore stay ignored.  For the main thread; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    begun = threading.Event()
    readable, writable = os.pipe()
    os.set_blocking(writable, False)

    def handle(number, frame):
        begun.set()
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    numbers = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    wakeup = signal.set_wakeup_fd(writable)
    watch = threading.Thread(target=_watch, args=(readable, frozenset(numbers), begun), name="stopping", daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writable)  # the thread ends, and closes its end


def _watch(readable, numbers, begun):
    """End the program after a signal, unless it begins to end in time and leaves the block, which closes the pipe."""
    with os.fdopen(readable, "rb", buffering=0) as stream:
        number = next((data[0] for data in iter(lambda: stream.read(1), b"") if data[0] in numbers), None)
        came = time.monotonic()
        while number is not None:
            waited = time.monotonic() - came
            if waited > END_S or (waited > BEGIN_S and not begun.is_set()):
                with contextlib.suppress(OSError):
                    os.write(2, b"error: a call into a library does not return; the program was ended all the same\n")
                os._exit(128 + number)
            if select.select([stream], [], [], _LOOK_EVERY_S)[0] and not stream.read(64):
                return


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
