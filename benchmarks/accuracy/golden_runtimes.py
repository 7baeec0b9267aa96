"""Runs right models on many runtimes and counts how many their golden images refuse.

    python3 benchmarks/accuracy/golden_runtimes.py demo/solar.edge --python /usr/bin/python3 --python ~/venv/bin/python

Method: each interpreter runs the bundle's own runtime and self-test, one process for each bundle and number of threads,
with what is installed beside it: each model that its machine would use, on ONNX Runtime, OpenVINO and OpenCV.  None of
the models is broken, so that every refusal is a fault of the golden images' limits, of a backend, or of the processor.
A backend that cannot load a model at all, as an old OpenCV for lack of an operator, is listed but not counted.

An interpreter is a command line, and settings of the environment may stand before it, as for an emulated arm64:

    --python "PYTHONPATH=SITE qemu-aarch64-static -cpu cortex-a57 -L ROOT ROOT/usr/bin/python3.11"

Exit codes: 0 no right model is refused, 3 at least one is.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgeclf_runtime.device.machine import machine_facts

SELFTEST = """
import json, sys
from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.runners import backend_version
from edgeclf_runtime.commands.selftest import selftest
versions = {name: backend_version(name) for name in ("onnxruntime", "openvino", "opencv")}
for threads in map(int, sys.argv[2:]):
    report = selftest(sys.argv[1], threads=threads).to_dict()
    print(json.dumps(dict(report, threads=threads, versions=versions, machine=machine_facts())))
"""
# Messages of a backend that is not there, which has not failed.
ABSENT = ("is not installed", "needs 1.24 or later", "does not support plug-ins")
LIMITS = (("largest_difference", "largest"), ("mean_difference", "mean"), ("divergence", "divergence"))


def main() -> None:
    """Run every bundle on every interpreter, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--python", action="append", required=True, metavar="COMMAND", help="an interpreter; repeat it")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="threads of a backend (1 2)")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for a bundle on an interpreter (1800)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for python in arguments.python:
        for bundle in arguments.bundles:
            found = run(python, Path(bundle), arguments.threads, arguments.timeout)
            rows += found
            if not arguments.json:
                show(python, bundle, found)
    ran = [row for row in rows if row["passed"] is not None]
    refused = [row for row in ran if not row["passed"]]
    if arguments.json:
        summary = {"models": len(ran), "refused": len(refused), "not_loaded": len(rows) - len(ran)}
        print(json.dumps({"benchmark": "golden_runtimes", **summary, "rows": rows, "machine": machine_facts()}))
    else:
        print(f"{len(ran)} right models on a runtime, {len(refused)} refused, {len(rows) - len(ran)} not loaded")
    sys.exit(3 if refused or not ran else 0)


def run(python: str, bundle: Path, threads: list[int], timeout: float) -> list[dict[str, Any]]:
    """Return a row for each model on each backend and number of threads."""
    words = shlex.split(os.path.expanduser(python))
    settings = dict(word.split("=", 1) for word in words if "=" in word.split("/")[0])
    command = [word for word in words if "=" not in word.split("/")[0]]
    path = os.pathsep.join(filter(None, (str(bundle.resolve()), settings.pop("PYTHONPATH", ""))))
    settings.update(PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1", LC_ALL="C.UTF-8")
    call = [*command, "-c", SELFTEST, str(bundle.resolve()), *map(str, threads)]
    environment = {**os.environ, **settings}
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise SystemExit(f"{python} on {bundle} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return [row for line in done.stdout.splitlines() for row in rows_of(json.loads(line), python, bundle)]


def rows_of(report: dict[str, Any], python: str, bundle: Path) -> list[dict[str, Any]]:
    """Return a row for each model that ran, or that its backend refused."""
    machine = report["machine"]
    place = {
        "bundle": bundle.stem,
        "python": machine["python"],
        "machine": machine["machine"],
        "emulated": next((word for word in shlex.split(python) if "qemu" in word), None),
        "opencv": machine["opencv"],
        "threads": report["threads"],
    }
    rows = []
    for found in report["reports"]:
        closest = max(
            (found[name] if found[name] is not None else float("inf")) / max(found["tolerance"][limit], 1e-12)
            for name, limit in LIMITS
        )
        facts = {name: found[name] for name in ("model", "backend", "passed", "labels_wrong")}
        rows.append({**place, **facts, "version": report["versions"][found["backend"]], "of_limit": round(closest, 4)})
    for name, reason in report["failures"].items():
        model, _, backend = name.partition(" on ")
        if not any(word in reason for word in ABSENT):
            passed = None if "cannot load" in reason else False
            facts = {"model": model, "backend": backend, "passed": passed, "labels_wrong": None}
            rows.append(
                {**place, **facts, "version": report["versions"].get(backend), "of_limit": None, "said": reason}
            )
    return rows


def show(python: str, bundle: str, rows: list[dict[str, Any]]) -> None:
    """Print what came of one bundle on one interpreter: the closest to a limit of each model and backend."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = collections.defaultdict(list)
    for row in rows:
        groups[row["model"], row["backend"], row["version"]].append(row)
    print(f"{python[-70:]} on {bundle}", flush=True)
    for (model, backend, version), found in groups.items():
        worst = max((row["of_limit"] for row in found if row["of_limit"] is not None), default=None)
        refused = sum(row["passed"] is False for row in found)
        said = next((row["said"] for row in found if "said" in row), "")
        print(
            f"  {model:<12} {backend:<12} {version!s:<10} {refused} of {len(found)} refused, {worst} of the limit {said}"
        )


if __name__ == "__main__":
    main()
