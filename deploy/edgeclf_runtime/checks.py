"""What the doctor's checks are made of: a finding, and questions to a process that may hang or crash."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any, Dict, NamedTuple, Optional

from .credentials import child_environment

STATUSES = ("ok", "warning", "fail", "unknown")
ASK_TIMEOUT_S = 60.0
_MAX_BYTES = 1 << 20
_MARK = "edgeclf answers "  # tells the answer from what libraries print
# The child finds modules where this process does, whatever lies in the working directory; the runtime itself may
# be a bundle's, whose folder is on nobody's path.
_CHILD = """
import sys
sys.path[:] = {path}
import json
sys.dont_write_bytecode = True
sys.path.insert(0, {home})
import edgeclf_runtime
del sys.path[0]
def answer():
{code}
try:
    found = {{"found": answer()}}
except ImportError as error:
    found = {{"missing": str(error)}}
except Exception as error:
    found = {{"error": str(error) or repr(error)}}
print("\\n{mark}" + json.dumps(found))
"""


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
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    body = "".join("    {}\n".format(line) for line in code.strip().splitlines())
    program = _CHILD.format(path=json.dumps(sys.path), home=json.dumps(home), code=body, mark=_MARK)
    status, text = run([sys.executable, "-c", program], timeout_s)
    if status is None:
        return Answer(failure="no answer in {:g} seconds".format(timeout_s), hung=True)
    if status < 0:
        return Answer(failure="died of {}".format(signal.Signals(-status).name), signal=-status)
    answers = [line[len(_MARK) :] for line in text.splitlines() if line.startswith(_MARK)]
    if not answers:
        said = " ".join(text.split())[-200:]
        return Answer(failure="ended with status {}{}".format(status, ": " + said if said else ""))
    answer = json.loads(answers[-1])
    if "found" in answer:
        return Answer(found=answer["found"])
    return Answer(failure=answer.get("missing", answer.get("error", "")), missing="missing" in answer)


def run(command, timeout_s):
    """Run a program and return (exit status, the end of its output); the status is None where it took too long.

    Output goes to a file: a pipe would be held open by what the program has started.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=child_environment(),
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
