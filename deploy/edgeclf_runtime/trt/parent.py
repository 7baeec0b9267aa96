"""The building process, seen from the program that waits for it; the other side is ``trt/child.py``."""

import contextlib
import json
import os
import select
import subprocess
import time
from typing import Iterator, Optional

from ..device import systemd
from ..device.child_process import start_child
from ..errors import BackendError
from ..files.schema import JsonObject
from ..text.terminal import relay, show_line, show_message
from .engine_spec import EngineSpec

_KILLED, _ENDED_BY_SYSTEM = -9, (-1, -2, -15)  # signals: KILL; HUP, INT, TERM
_REPORT_EVERY_S = 30.0
_LOAD_S = 300.0  # allowed between a message of the building process and a loaded engine
_MOST_OF_A_MESSAGE = 1 << 20


class Refused(BackendError):  # noqa: N818 - as EndOfStream
    """A build that would fail again in the same way."""


class Killed(Refused):
    """A building process that was killed, most likely for memory."""


class Progress:
    """Reports a build's progress on stderr: on a terminal as one line that changes, elsewhere as a line now and then.

    expected_s      duration of an earlier build like this one, or None
    """

    def __init__(self, name: str, expected_s: Optional[float] = None) -> None:
        self._name, self._start, self._reported = name, time.monotonic(), time.monotonic()
        self._phase, self._expected = "", " of about {:.0f} s".format(expected_s) if expected_s else " s"

    def __call__(self, message: Optional[JsonObject]) -> None:
        """Take a message of the building process, or None after a second without one."""
        systemd.progress(_LOAD_S)
        if message:
            steps = " {} of {}".format(message["step"], message["steps"]) if message.get("steps") else ""
            self._phase = ": {}{}".format(message["phase"], steps)
        line = "engine of {}, {:.0f}{}{}".format(
            self._name, time.monotonic() - self._start, self._expected, self._phase
        )
        if not show_line(line) and time.monotonic() - self._reported >= _REPORT_EVERY_S:
            self._reported = time.monotonic()
            show_message(line)

    def close(self) -> None:
        """Clear the terminal's line."""
        show_line("")


def build_engine(spec: EngineSpec, progress: Progress) -> JsonObject:
    """Build an engine in a separate process; returns facts about it.

    Raises BackendError: Refused if the same would happen again, Killed if that process was killed.
    """
    ours, theirs = os.pipe()
    process = start_child(
        "trt.child",
        theirs,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(theirs)
    assert process.stdin is not None
    assert process.stderr is not None
    relayed = relay(process.stderr)
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended, which shows below
            process.stdin.write(spec.to_json().encode() + b"\n")
            process.stdin.flush()
        for message in _messages(ours):
            if message and "done" in message:
                done: JsonObject = message["done"]
                return done
            if message and "error" in message:
                raise (Refused if message["lasting"] else BackendError)(message["error"])
            progress(message)
        raise _ended(process.wait(), spec)
    finally:
        progress.close()
        process.kill()
        process.wait()
        relayed.join(1.0)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        os.close(ours)


def _messages(link: int) -> Iterator[Optional[JsonObject]]:
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


def _message(line: bytes) -> JsonObject:
    """Return a message; a damaged ONNX file may have taken over the process that sends it."""
    try:
        if len(line) > _MOST_OF_A_MESSAGE:
            raise ValueError
        return dict(json.loads(line.decode()))
    except (TypeError, ValueError, RecursionError):
        raise BackendError(
            "the building process sent something that is not a message: {!r} ({} bytes); make the bundle again".format(
                line[:80], len(line)
            )
        )


def _ended(code: int, spec: EngineSpec) -> BackendError:
    name = os.path.basename(spec.source)
    if code in _ENDED_BY_SYSTEM:
        return BackendError("the build of the engine of {} was ended from outside; start it again".format(name))
    if code == _KILLED:
        return Killed(
            "the build of the engine of {} was killed, most likely because memory ran out; end other programs, add "
            "swap space, or give it less than {} MB with --workspace, then: build --retry".format(
                name, spec.workspace_bytes >> 20
            )
        )
    how = "by signal {}".format(-code) if code < 0 else "with exit status {}".format(code)
    return Refused(
        "TensorRT ended the building process of {} {}; its output is above, use another model with --model".format(
            name, how
        )
    )
