"""The standard streams of a program: all three are there, and a broken one stops nothing that does not need it."""

import contextlib
import os
import sys


def open_missing():
    """Open the null device for each standard stream that the program was started without (``<&- >&- 2>&-``).

    Without it the next file that is opened takes the number, and what a library prints lands in that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, "__{}__".format(name), stream)


def silence(stream):
    """Lead a standard stream that cannot be written to the null device, so that Python's last flush does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)


def write_stderr(text):
    """Write to stderr; if its disk is full, or its reader has gone, there is nobody to report that to."""
    # Not by print(): it takes stdout if there is no stderr.
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        silence(sys.stderr)
