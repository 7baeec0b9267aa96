"""What the doctor's checks are made of: a finding, and questions to a process that may hang or crash."""

import contextlib
import json
import os
import signal
import subprocess
from typing import Any, Dict, NamedTuple, Optional

from ...capture.frame_memory import anonymous_file
from ...device.child_process import find_program, start_child

STATUSES = ("ok", "warning", "fail", "unknown")
ASK_TIMEOUT_S = 60.0
_MAX_BYTES = 1 << 20
_MARK = "edgeclf answers "  # tells the answer from what libraries print


class Check(NamedTuple):
    """One finding of the doctor.

    status      "ok"; "warning": works, but not as well as it could, or something optional is missing; "fail":
                has to be mended; "unknown": could not be found out
    found       what is there
    fix         what to do, empty where nothing is to be done
    """

    name: str
    status: str
    found: str
    fix: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """The finding as JSON can hold it."""
        return dict(self._asdict())


class Answer(NamedTuple):
    """What came of a question to a child process.

    found       the answer, or None where there is none
    failure     why there is none
    missing     whether a library is not installed
    signal      number of the signal that the child died of, or 0
    hung        whether it was killed because it took too long
    """

    found: Any = None
    failure: str = ""
    missing: bool = False
    signal: int = 0
    hung: bool = False


def ask(code, timeout_s=ASK_TIMEOUT_S):
    """Run the body of a Python function in a child process and return what it returns, as an Answer.

    A native library that crashes, exits or hangs when it is loaded takes the child with it alone.
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
        return Answer(failure="answered what is not JSON: {!r}".format(answers[-1][:200]))
    if "found" in answer:
        return Answer(found=answer["found"])
    return Answer(failure=str(answer.get("missing", answer.get("error", ""))), missing="missing" in answer)


def run(command, timeout_s):
    """Run a program and return (exit status, the end of its output); the status is None where it took too long."""
    return _run({"command": [find_program(command[0]) or command[0]] + command[1:]}, timeout_s)


def _run(request, timeout_s):
    # Output goes to a file: a pipe would be held open by what the program has started.
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
            # Also what it has started.  Inside a driver not even a kill takes effect, so nobody waits for it long.
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
        output.seek(max(0, output.seek(0, os.SEEK_END) - _MAX_BYTES))
        return status, output.read().decode("utf-8", "replace")


def main(handle):
    """Answer a question, in the child: print what the body of a function returns, or become a program."""
    with os.fdopen(handle) as stream:
        request = json.load(stream)
    if "command" in request:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        # The kernel still kills it when the doctor ends.
        os.execv(request["command"][0], request["command"])
    print("\n" + _MARK + json.dumps(_answer(request["code"])))


def _answer(code):
    scope: Dict[str, Any] = {}
    body = "".join("    {}\n".format(line) for line in code.strip().splitlines())
    try:
        exec("def answer():\n" + body, scope)
        return {"found": scope["answer"]()}
    except ImportError as error:
        return {"missing": str(error)}
    except Exception as error:  # whatever a library raises
        return {"error": str(error) or repr(error)}
