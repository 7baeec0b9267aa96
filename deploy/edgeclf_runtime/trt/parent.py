"""The building process, seen from the program that waits for it.

The other side is ``trt/child.py``.  Knows nothing of what is built for which device.
"""

import contextlib
import json
import os
import select
import subprocess
import time
from typing import Any

from ..device import systemd
from ..device.child_process import start_child
from ..errors import BackendError
from ..text.terminal import relay, show_line, show_message

_KILLED, _ENDED_BY_SYSTEM = -9, (-1, -2, -15)  # signals: KILL; HUP, INT, TERM
_TELL_EVERY_S = 30.0
_LOAD_S = 300.0  # what may pass between a sign of life of the building process and an engine that is loaded
_MOST_OF_A_MESSAGE = 1 << 20


class Refused(BackendError):  # noqa: N818 - as EndOfStream
    """A build that would fail again in the same way."""


class Killed(Refused):
    """A building process that was killed, most likely for memory."""


class Progress:
    """Tells stderr how far a build is: as one line that changes on a terminal, else now and then as a line.

    expected_s      what such a build took before, or None
    """

    def __init__(self, name, expected_s=None):
        self._name, self._start, self._said = name, time.monotonic(), time.monotonic()
        self._phase, self._expected = "", " of about {:.0f} s".format(expected_s) if expected_s else " s"

    def __call__(self, message):
        """Take a message of the building process, or None when a second went by without one."""
        systemd.progress(_LOAD_S)
        if message:
            steps = " {} of {}".format(message["step"], message["steps"]) if message.get("steps") else ""
            self._phase = ": {}{}".format(message["phase"], steps)
        line = "engine of {}, {:.0f}{}{}".format(
            self._name, time.monotonic() - self._start, self._expected, self._phase
        )
        if not show_line(line) and time.monotonic() - self._said >= _TELL_EVERY_S:
            self._said = time.monotonic()
            show_message(line)

    def close(self):
        """Leave the terminal's line empty."""
        show_line("")


def build_engine(request, progress):
    """Build an engine in a process of its own; returns facts about it.

    Raises BackendError: Refused where the same would happen again, Killed where that process was killed.
    """
    ours, theirs = os.pipe()
    process: Any = start_child(
        "trt.child",
        theirs,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(theirs)
    said = relay(process.stderr)
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended, which shows below
            process.stdin.write(json.dumps(request._asdict()).encode() + b"\n")
            process.stdin.flush()
        for message in _messages(ours):
            if message and "done" in message:
                return message["done"]
            if message and "error" in message:
                raise (Refused if message["lasting"] else BackendError)(message["error"])
            progress(message)
        raise _ended(process.wait(), request)
    finally:
        progress.close()
        process.kill()
        process.wait()
        said.join(1.0)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        os.close(ours)


def _messages(link):
    """Yield each message, and None for each second without one, until the process has ended."""
    received = b""
    while True:
        if not select.select([link], [], [], 1.0)[0]:
            yield None
            continue
        data = os.read(link, 65536)
        if not data:
            return
        received += data
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            yield _message(line)
        if len(received) > _MOST_OF_A_MESSAGE:
            _message(received)


def _message(line):
    """Return a message; a damaged ONNX file may have taken over the process that sends it."""
    try:
        if len(line) > _MOST_OF_A_MESSAGE:
            raise ValueError
        return dict(json.loads(line.decode()))
    except (TypeError, ValueError, RecursionError):
        raise BackendError(
            "the building process sent what is not a message: {!r} ({} bytes); make the bundle again".format(
                line[:80], len(line)
            )
        )


def _ended(code, request):
    name = os.path.basename(request.source)
    if code in _ENDED_BY_SYSTEM:
        return BackendError("the build of the engine of {} was ended from outside; start it again".format(name))
    if code == _KILLED:
        return Killed(
            "the build of the engine of {} was killed, most likely because memory ran out; end other programs, add "
            "swap space, or give it less than {} MB with --workspace, then: build --retry".format(
                name, request.workspace_bytes >> 20
            )
        )
    how = "by signal {}".format(-code) if code < 0 else "with exit status {}".format(code)
    return Refused(
        "TensorRT ended the building process of {} {}; what it said stands above, use another model with --model".format(
            name, how
        )
    )
