"""The standard streams of a program: opens missing ones, and survives broken ones."""

import contextlib
import os
import sys

TYPE_CHECKING = False  # see edgeclf_runtime/__init__.py
if TYPE_CHECKING:
    from typing import TextIO


def open_missing() -> None:
    """Open the null device for each standard stream that the program was started without (``<&- >&- 2>&-``).

    Otherwise the next file that is opened gets its number, and what a library prints ends up in that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # open() takes the lowest free number: the lower ones are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, "__{}__".format(name), stream)


def silence(stream: "TextIO") -> None:
    """Redirect a standard stream that cannot be written to the null device, so that Python's last flush does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)


def write_stderr(text: str) -> None:
    """Write to stderr; if its disk is full or its reader has gone, there is no one to tell."""
    # print() would use stdout if there is no stderr.
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        silence(sys.stderr)
