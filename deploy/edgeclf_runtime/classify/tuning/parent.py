"""The measuring process, seen from the program that waits for it; the other side is ``classify/tuning/child.py``."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Dict, Iterator, List, NamedTuple, Sequence

from ...capture.frame_memory import anonymous_file
from ...device.child_process import start_child
from ...text.terminal import show_line
from .memory import Figures
from .request import Request

if TYPE_CHECKING:
    from io import FileIO

    from ...bundle.open_bundle import Bundle
    from ...files.schema import JsonObject
    from .candidate import Candidate

_MODULE = "classify.tuning.child"
_MOST_CHILDREN = 6  # each but the last one has crashed or hung
_MOST_OF_A_MESSAGE = 1 << 16


class Limits(NamedTuple):
    """Seconds that measuring may take.

    budget_s    what it takes as a rule, besides starting the process; a slow device takes longer to open each model once
    hang_s      of one step, after which its candidate counts as hanging
    most_s      in all
    """

    budget_s: float
    hang_s: float
    most_s: float


def measure(bundle: "Bundle", candidates: "Sequence[Candidate]", purpose: str, limits: Limits) -> Figures:
    """Measure candidates in a child process, and return their Figures.

    A candidate that kills the child, or hangs, fails, and another child measures the others.  Those that the time was too
    short for fail, too.
    """
    log = _Log(candidates)
    deadline = time.monotonic() + limits.most_s
    try:
        for _ in range(_MOST_CHILDREN):
            left = [one for one in candidates if one.name not in log.failures]
            if not left or not _run(Request(bundle, left, purpose, limits.budget_s), log, limits.hang_s, deadline):
                break
    finally:
        show_line("")
    return log.figures()


class _Log:
    """The children's reports."""

    def __init__(self, candidates: "Sequence[Candidate]") -> None:
        self._names = [one.name for one in candidates]
        self._ms: Dict[str, float] = {}
        self.failures: Dict[str, str] = {}
        self._crashed: List[str] = []
        self.doing = ""  # the name of the candidate that a child works on
        self.done = False
        self._others = 0.0

    def take(self, message: "JsonObject") -> None:
        """Take a message; raises LookupError or TypeError if it is not one."""
        if "doing" in message:
            self.doing = str(message["doing"])
            show_line("measuring {} candidates: {}".format(len(self._names), self.doing))
        elif "ms" in message:
            self._ms[message["name"]] = float(message["ms"])
        elif "failed" in message:
            self.failures[message["name"]] = str(message["failed"])
        elif "done" in message:
            self.done, self._others = True, float(message["others"])

    def take_end(self, status: int) -> bool:
        """Take the end of a child, which has not finished; returns whether one of the candidates is to blame.

        status      as Popen gives it
        """
        if self.doing not in self._names:
            return False
        if status == -signal.SIGKILL:  # not by itself
            self.failures[self.doing] = "the measuring process was killed, most likely because memory ran out"
            return True
        how = signal.Signals(-status).name if status < 0 else "exit status {}".format(status)
        self.failures[self.doing] = "it ended the measuring process ({})".format(how)
        self._crashed.append(self.doing)
        return True

    def take_hang(self, limit_s: float) -> bool:
        """Take that a child does not answer; returns whether one of the candidates is to blame."""
        if self.doing not in self._names:
            return False
        self.failures[self.doing] = "it did not answer within {:g} s".format(limit_s)
        return True

    def figures(self) -> Figures:
        """Return the Figures."""
        latency_ms = {name: round(ms, 3) for name, ms in self._ms.items() if name not in self.failures}
        late = dict.fromkeys(self._names, "the time was too short to measure it")
        failures = {name: self.failures.get(name, late[name]) for name in self._names if name not in latency_ms}
        return Figures(latency_ms, failures, tuple(self._crashed), others=self._others)


def _run(request: Request, log: _Log, hang_s: float, deadline: float) -> bool:
    """Run a child until it has finished, or the time is over; returns whether another one should measure the others."""
    log.doing, log.done = "", False
    with anonymous_file() as question:
        question.write(request.to_json().encode() + b"\n")
        question.seek(0)
        ours, theirs = os.pipe()
        with os.fdopen(ours, "rb", buffering=0) as link:
            # In its own session: Ctrl-C must reach only this process, which then ends the child.
            process = start_child(
                _MODULE,
                theirs,
                stdin=question,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            os.close(theirs)
            try:
                for message in _messages(link, hang_s, deadline):
                    log.take(message)
                    if log.done:
                        return False
                return log.take_end(process.wait())
            except TimeoutError:
                return time.monotonic() < deadline and log.take_hang(hang_s)
            except (LookupError, TypeError, ValueError):  # a damaged model may have taken the child over
                return log.take_end(1)
            finally:
                # Includes the processes that it has started.
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _messages(link: "FileIO", hang_s: float, deadline: float) -> "Iterator[JsonObject]":
    """Yield each message until the process has ended; raises TimeoutError if one takes too long."""
    received = b""
    while True:
        wait_s = min(hang_s, deadline - time.monotonic())
        if wait_s <= 0 or not select.select([link], [], [], wait_s)[0]:
            raise TimeoutError
        data = link.read(65536)
        if not data:
            return
        *lines, received = (received + data).split(b"\n")
        for line in lines:
            yield dict(json.loads(line.decode()))
        if len(received) > _MOST_OF_A_MESSAGE:
            raise ValueError
