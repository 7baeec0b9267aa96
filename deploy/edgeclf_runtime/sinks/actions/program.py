"""Starts a program for each event of a label, with the event as JSON on its standard input."""

import contextlib
import logging
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence

from ...device.child_process import find_program, without_working_folder
from ...device.process_secrets import child_environment
from ...errors import OutputError
from ..base import Sink
from ..outage import Outage
from ..worker import Worker

if TYPE_CHECKING:
    from ...results import LabelEvent, StreamResult

_log = logging.getLogger(__name__)
TIMEOUT_S = 30.0
QUEUE_EVENTS = 64
CLOSE_S = 0.9
_STDERR = 2
_TOO_FAST = "events come faster than the program handles them"


class ProgramSink(Sink):
    """Runs a program for each LabelEvent, one after another: its JSON line is on stdin, and no shell is involved.

    program     a path, or a name on PATH
    arguments   for the program
    timeout_s   a program that runs longer is killed, with the processes that it started
    wait        True waits for a slow program instead of losing events: for sources that are not live

    What the program prints goes to stderr.  It does not get this process's passwords.  A program that cannot be started, fails or
    is killed loses its event.  Raises OutputError if there is no such program.
    """

    def __init__(
        self, program: str, arguments: Sequence[str] = (), timeout_s: float = TIMEOUT_S, wait: bool = False
    ) -> None:
        self.name = "the program {}".format(program)
        self._command = [_found(program), *arguments]
        self._timeout_s, self._wait, self._closed = timeout_s, wait, False
        self._process: "Optional[subprocess.Popen[bytes]]" = None
        self._outage, self._slow = Outage(_log, self.name), Outage(_log, self.name)
        self._worker = Worker(self._run, QUEUE_EVENTS)

    def write(self, item: "StreamResult") -> None:
        """Leave a result out: only events start the program."""

    def label_event(self, event: "LabelEvent") -> None:
        if not self._worker.offer(event, self._wait):
            self._slow.begin("events are lost: {}".format(_TOO_FAST))
            self.lose(_TOO_FAST)

    def _run(self, event: "LabelEvent") -> None:
        if self._closed:
            return
        reason = self._fault(event.to_json().encode("ascii") + b"\n")
        if reason and not self._closed:
            self._outage.begin("an event is lost: {}".format(reason))
            self.lose(reason)
        elif not reason:
            self._outage.end("works again; {} events were lost".format(self.lost))

    def _fault(self, line: bytes) -> str:
        """Run the program with a line on stdin; returns what went wrong, or ""."""
        environment = without_working_folder(child_environment())
        options: Dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": _STDERR,
            "env": environment,
            "start_new_session": True,
        }
        try:
            process = self._process = subprocess.Popen(self._command, **options)
        except OSError as error:
            return "it cannot be started ({})".format(error.strerror)
        try:
            # A program that reads nothing is no failure: communicate() ignores a closed pipe.
            process.communicate(line, self._timeout_s)
        except subprocess.TimeoutExpired:
            return "it took longer than {:g} s".format(self._timeout_s)
        finally:
            _end(process)
        return "its exit code is {}".format(process.returncode) if process.returncode else ""

    def flush(self) -> None:
        self._worker.close(None)

    def close(self) -> None:
        if self._closed:
            return
        left = 0 if self._worker.close(CLOSE_S) else self._worker.left
        self._closed = True
        if left:
            _log.warning("%s: the last %d events are lost: the run ended first", self.name, left)
            self.lose("the run ended first", left)
            if self._process is not None:
                _end(self._process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a program and what it started, if it still runs."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _found(program: str) -> str:
    """Return the absolute path of a program; raises OutputError if there is none."""
    path = os.path.abspath(program) if os.sep in program else find_program(program)
    if path is None or not os.path.isfile(path) or not os.access(path, os.X_OK):
        why = (
            "is not on PATH" if path is None else "is not there" if not os.path.isfile(path) else "may not be executed"
        )
        raise OutputError(
            "the program of --on-event, {!r}, {}: give the path of a program, and its arguments with --on-event-arg".format(
                program, why
            )
        )
    return path
