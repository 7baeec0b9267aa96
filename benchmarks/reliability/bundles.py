"""Checks that a damaged or hostile bundle is refused, in one sentence and at once.

    python3 benchmarks/reliability/bundles.py --count 10000

Method: each trial changes one thing in a copy of a small real bundle, most of them with consistent hashes, so that the
hashes by themselves find nothing: a field of the manifest or of the golden file gets a value of another kind; the JSON is bent
(NaN, a key twice, depth, control characters); files are replaced by links, pipes and devices; byte code, folders and
modules are added; a model refers to other files.  A child process then opens the bundle, shows what it holds, proves the
model on the golden images and classifies an image, as ``info``, ``selftest`` and ``classify`` do; with ``--commands N``
the first N trials are also run as ``python3 NAME.edge selftest``.

Counted are the outcomes.  "accepted" is wrong where the change must be refused; "traceback" is any exception but
edgeclf's own, "hang" more than five seconds, "crash" a signal.  The same seed gives the same trials.
Exit codes: 0 nothing was wrong, 3 something was.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from bundle_changes import CHANGES

from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.errors import EdgeclfError

LIMIT_S = 5
ACCEPTED, REFUSED, TRACEBACK, HANG, CRASH = "accepted", "refused", "traceback", "hang", "crash"
_CODES = {0: ACCEPTED, 10: REFUSED, 11: TRACEBACK}
SHOWN = 20


def main() -> None:
    """Run the trials, print a table or JSON, and set the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="trials (1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", type=int, default=20, help="trials that are also run as a program (20)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report = attack(arguments.count, arguments.seed, arguments.commands)
    print(json.dumps({**report, "machine": machine_facts()}) if arguments.json else table(report))
    raise SystemExit(3 if report["wrong"] else 0)


def attack(count: int, seed: int, commands: int) -> dict[str, Any]:
    """Return the outcomes by kind of change, and a line for each that is wrong."""
    # What is used is loaded once; the children are forked.
    import cv2  # noqa: F401
    import onnxruntime  # noqa: F401

    import edgeclf_runtime.commands.selftest  # noqa: F401

    outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    wrong: list[str] = []
    slowest_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        good = Path(folder, "good.edge")
        # In a child: a backend that was used here would not survive the forks.
        subprocess.run([sys.executable, "-c", _MAKE, str(Path(__file__).parent), str(good)], check=True)
        if outcome_of(lambda: use(good)) != ACCEPTED:
            raise SystemExit("error: the bundle is refused before anything is changed")
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            change = chance.choices(CHANGES, [change.weight for change in CHANGES])[0]
            path = Path(folder, "copy.edge")
            shutil.copytree(good, path, symlinks=True)
            start = time.monotonic()
            what, must_refuse = change.apply(path, chance)
            found = [outcome_of(lambda path=path: use(path))]
            slowest_s = max(slowest_s, time.monotonic() - start)
            if number < commands:
                found.append(command_outcome(path, "selftest"))
            for outcome in found:
                outcomes[change.kind][outcome] += 1
                if outcome not in (ACCEPTED, REFUSED) or (outcome == ACCEPTED and must_refuse):
                    wrong.append(f"trial {number}: {outcome}: {change.kind}: {what}")
            remove(path)
            show(number + 1, count, wrong)
    return {
        "trials": count,
        "seed": seed,
        "outcomes": {kind: dict(counter) for kind, counter in sorted(outcomes.items())},
        "wrong": wrong,
        "slowest_s": round(slowest_s, 3),
    }


_MAKE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from small_bundle import make_small_bundle
make_small_bundle(Path(sys.argv[2]))
"""


def use(path: Path) -> None:
    """Do with a bundle what info, selftest and classify do."""
    import numpy as np

    from edgeclf.evaluation.open_model import open_model
    from edgeclf_runtime.commands.info import info
    from edgeclf_runtime.commands.selftest import selftest

    report = info(path)
    str(report), json.dumps(report.to_dict())
    tested = selftest(path, threads=1)
    str(tested), json.dumps(tested.to_dict())
    with open_model(path) as opened:
        result = opened.classifier.classify(np.zeros((40, 48, 3), np.uint8))
        str(result), json.dumps(result.to_dict())


def outcome_of(function: Any) -> str:
    """Return how a call ended in a child process."""
    child = os.fork()
    if child == 0:
        code = 11
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            signal.alarm(LIMIT_S)
            function()
            code = 0
        except EdgeclfError:
            code = 10
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return HANG if os.WTERMSIG(status) == signal.SIGALRM else CRASH
    return _CODES.get(os.WEXITSTATUS(status), CRASH)


def command_outcome(path: Path, command: str) -> str:
    """Return how a command of the bundle ended, started as a user starts it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    try:
        done = subprocess.run(
            [sys.executable, str(path), command], capture_output=True, env=environment, timeout=6 * LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return HANG
    if done.returncode < 0:
        return CRASH
    if b"Traceback" in done.stderr:
        sys.stderr.write(done.stderr.decode("utf-8", "replace"))
        return TRACEBACK
    return ACCEPTED if done.returncode == 0 else REFUSED


def remove(path: Path) -> None:
    """Remove a copy, whatever was put into it."""
    with contextlib.suppress(OSError):
        path.chmod(0o700)
    shutil.rmtree(path)


def show(done: int, count: int, wrong: list[str]) -> None:
    """Show how far it is, on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {count} bundles, {len(wrong)} wrong" + "\n" * (done == count))
        sys.stderr.flush()


def table(report: dict[str, Any]) -> str:
    """Return the outcomes as a table."""
    columns = (REFUSED, ACCEPTED, TRACEBACK, HANG, CRASH)
    lines = [f"{'change':<24}" + "".join(f"{column:>11}" for column in columns)]
    for kind, counts in report["outcomes"].items():
        lines.append(f"{kind:<24}" + "".join(f"{counts.get(column, 0):>11}" for column in columns))
    lines += report["wrong"][:SHOWN]
    lines.append(
        f"{report['trials']} bundles, {len(report['wrong'])} wrong outcomes, slowest {report['slowest_s']:.2f} s "
        "(accepted changes are harmless ones)"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
