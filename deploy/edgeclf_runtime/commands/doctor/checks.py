"""The parts of the doctor's checks: a finding, and questions to a child process, which may hang or crash."""

import contextlib
import json
import os
import signal
import subprocess
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ...capture.frame_memory import anonymous_file
from ...device.child_process import find_program, start_child

STATUSES = ("ok", "warning", "fail", "unknown")
ASK_TIMEOUT_S = 60.0
_MAX_BYTES = 1 << 20
_MARK = "edgeclf answers "  # separates the answer from what libraries print


class Check(NamedTuple):
    """A finding of the doctor.

    status      "ok"; "warning": works, but not as well as it could, or something optional is missing; "fail": must be
                fixed; "unknown": could not be determined
    found       what was found
    fix         what to do, or ""
    """

    name: str
    status: str
    found: str
    fix: str = ""

    def to_dict(self) -> Dict[str, object]:
        """Return the finding as JSON can hold it."""
        return dict(self._asdict())


class Answer(NamedTuple):
    """The answer of a child process.

    found       the answer, or None
    failure     the reason if there is no answer
    missing     whether a library is not installed
    signal      number of the signal that killed the child, or 0
    hung        whether the child was killed because it took too long
    """

    found: Any = None
    failure: str = ""
    missing: bool = False
    signal: int = 0
    hung: bool = False


def ask(code: str, timeout_s: float = ASK_TIMEOUT_S) -> Answer:
    """Run the body of a Python function in a child process, and return its result as an Answer.

    A native library that crashes, exits or hangs when it is loaded affects only the child.
    """
    status, text = _run({"code": code}, timeout_s)
    if status is None:
        return Answer(failure="no answer in {:g} seconds".format(timeout_s), hung=True)
    if status < 0:
        return Answer(failure="died of {}".format(signal.Signals(-status).name), signal=-status)
    answers = [line[len(_MARK) :] for line in text.splitlines() if line.startswith(_MARK)]
    if not answers:
        said = " ".join(text.split())[-200:]
        return Answer(failure="ended with status {}{}".format(status, ": " + said if said else ""))
    try:
        answer = dict(json.loads(answers[-1]))
    except (TypeError, ValueError):
        return Answer(failure="its answer is not JSON: {!r}".format(answers[-1][:200]))
    if "found" in answer:
        return Answer(found=answer["found"])
    return Answer(failure=str(answer.get("missing", answer.get("error", ""))), missing="missing" in answer)


def run(command: List[str], timeout_s: float) -> Tuple[Optional[int], str]:
    """Run a program; returns its exit status, None if it took too long, and the end of its output."""
    return _run({"command": [find_program(command[0]) or command[0]] + command[1:]}, timeout_s)


def _run(request: Dict[str, object], timeout_s: float) -> Tuple[Optional[int], str]:
    # Output goes to a file: programs that the child has started would hold a pipe open.
    with anonymous_file() as output, anonymous_file() as question:
        question.write(json.dumps(request).encode())
        question.seek(0)
        process = start_child(
            "commands.doctor.checks",
            question.fileno(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        status: Optional[int] = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(timeout_s)
        finally:
            # Includes the processes it has started.  A process inside a driver survives even SIGKILL, so the wait is short.
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
        output.seek(max(0, output.seek(0, os.SEEK_END) - _MAX_BYTES))
        return status, output.read().decode("utf-8", "replace")


def main(handle: int) -> None:
    """Answer a question, in the child: print the result of a function's body, or become a program."""
    with os.fdopen(handle) as stream:
        request = json.load(stream)
    if "command" in request:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        # The kernel still kills it when the doctor ends.
        os.execv(request["command"][0], request["command"])
    print("\n" + _MARK + json.dumps(_answer(request["code"])))


def _answer(code: str) -> Dict[str, object]:
    scope: Dict[str, Any] = {}
    body = "".join("    {}\n".format(line) for line in code.strip().splitlines())
    try:
        exec("def answer():\n" + body, scope)
        return {"found": scope["answer"]()}
    except ImportError as error:
        return {"missing": str(error)}
    except Exception as error:  # libraries may raise anything
        return {"error": str(error) or repr(error)}
