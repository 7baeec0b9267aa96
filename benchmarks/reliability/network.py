"""Checks that no command, on any backend, looks up a host, sends a packet, or leaves an identifier.

    sudo python3 benchmarks/reliability/network.py edgeclf-demo/solar.edge --run edgeclf-demo/run --data elpv

Method: each command runs in a network namespace of its own (``tests/support/netns.py``) whose only way out is a cable
that nobody listens at, with an empty home, under strace.  Counted are the names that its resolver was asked for, the
sockets that were connected or bound to another address than loopback, the packets that left by the cable, and the
files that are left in the home and are none of the caches that SECURITY.md lists.  ``run`` classifies a generated
camera for --seconds, since reports are sent with a delay: ONNX Runtime's own took 45 seconds.  Two controls, which
import ONNX Runtime and OpenVINO as they are, show that offences are seen.  Needs root and Debian's strace and iproute2.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from edgeclf_runtime.bundle.open_bundle import open_bundle  # noqa: E402
from edgeclf_runtime.device.machine import machine_facts  # noqa: E402
from edgeclf_runtime.runners import backend_version  # noqa: E402
from tests.support.netns import OWN, observe, reason_to_skip  # noqa: E402
from tests.support.system_calls import Act, read_acts, traced  # noqa: E402

BACKENDS = ("onnxruntime", "openvino", "opencv")
CACHES = (*OWN, "home/.cache/matplotlib/", "home/.cache/gstreamer-1.0/")
COUNTS = ("names", "sockets", "packets", "id_files")
# A socket bound to no address yet, and those that never leave the machine.
_LOCAL = (" 127.", " [::1]:", " 0.0.0.0:0", " [::]:0", " unix ")
_CONTROLS = {
    "import onnxruntime": (
        "import sys, time, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        "time.sleep(float(sys.argv[2]))"
    ),
    "import openvino": "import openvino",
}


class Task(NamedTuple):
    """A command of a kind, "control", "device" or "host", with its name in the table."""

    kind: str
    name: str
    command: list[Any]
    statuses: tuple[int, ...] = (0,)


def main() -> None:
    """Run every command and print what each did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge", type=Path)
    parser.add_argument("--run", type=Path, metavar="RUN", help="a run, for the host's commands")
    parser.add_argument("--data", metavar="DATA", help="the data that it was trained on")
    parser.add_argument("--seconds", type=int, default=90, help="of each run on a generated camera (90)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="commands at the same time (2)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    reason = reason_to_skip() or ("" if shutil.which("strace") else "strace is not installed")
    if reason:
        raise SystemExit(reason)
    tasks = [*controls(arguments), *device(arguments), *host(arguments)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(watch, tasks, [Path(folder, str(number)) for number in range(len(tasks))]))
    report = {"seconds": arguments.seconds, "rows": rows, "total": totals(rows), "machine": facts()}
    if arguments.json:
        print(json.dumps(report))
        return
    print(f"{'':8} {'command':44} {'exit':>4} " + " ".join(f"{name:>8}" for name in COUNTS))
    for row in [*rows, {"kind": "total", "command": "without the controls", "status": "", **report["total"]}]:
        counts = " ".join(f"{row[name]:>8}" for name in COUNTS)
        print(f"{row['kind']:8} {row['command']:44} {row['status']:>4} {counts}")


def controls(arguments: argparse.Namespace) -> list[Task]:
    """Return two programs that do what no command may."""
    opened = open_bundle(str(arguments.bundle))
    model = opened.file(opened.model("fp32").file)
    return [
        Task("control", name, [sys.executable, "-c", code, model, arguments.seconds])
        for name, code in _CONTROLS.items()
        if backend_version(name.split()[1])
    ]


def device(arguments: argparse.Namespace) -> list[Task]:
    """Return the device's commands, those that choose a backend once for each."""
    bundle = arguments.bundle.resolve()
    image = next((bundle / "golden").glob("*.png"))
    # Without TensorRT there is nothing to build, and the doctor finds something to fix if there is no camera.
    plain: dict[str, tuple[int, ...]] = {
        "--help": (0,),
        "info": (0,),
        "selftest": (0,),
        "doctor": (0, 1),
        "build": (0, 1),
    }
    chosen = {
        "classify": ["classify", image],
        "bench": ["bench", "--repeat", 50],
        "run FOLDER": ["run", "--source", bundle / "golden", "--sink", "it.csv", "--sink", "it.mp4"],
        "run test://": ["run", "--source", "test://", "--frames", 30 * arguments.seconds, "--quiet", "--live", 0],
    }
    tasks = [Task("device", name, [sys.executable, bundle, name], statuses) for name, statuses in plain.items()]
    tasks.append(Task("device", "classify --tune", [sys.executable, bundle, "classify", "--tune", image]))
    for backend in filter(backend_version, BACKENDS):
        for name, command in chosen.items():
            line = [sys.executable, bundle, *command, "--backend", backend]
            tasks.append(Task("device", f"{name} --backend {backend}", line))
    return tasks


def host(arguments: argparse.Namespace) -> list[Task]:
    """Return the host's commands, where a run and its data are given."""
    if not (arguments.run and arguments.data):
        return []
    run, bundle = arguments.run.resolve(), arguments.bundle.resolve()
    data = str(Path(arguments.data).resolve()) if Path(arguments.data).exists() else arguments.data
    small = ["--image-size", "64", "--epochs", "1"]
    commands = {
        "--help": ["--help"],
        "check": ["check", data],
        "train": ["train", data, "--output", "head", *small],
        "train --finetune full": ["train", data, "--output", "full", "--finetune", "full", *small],
        "evaluate": ["evaluate", run, data],
        "robustness": ["robustness", run, data, "--images", "8"],
        "compare": ["compare", run, bundle, data],
        "predict": ["predict", bundle, next((bundle / "golden").glob("*.png"))],
        "export": ["export", run, "--output", "it.onnx"],
        "calibrate": ["calibrate", data, "--output", "set"],
        "bundle": ["bundle", run, "--output", "it.edge"],
        "build": ["build", bundle],
    }
    python = [sys.executable, "-m", "edgeclf"]
    statuses: dict[str, tuple[int, ...]] = {"build": (0, 1)}
    tasks = [Task("host", name, [*python, *line], statuses.get(name, (0,))) for name, line in commands.items()]
    # It writes into its run.
    code = "import shutil, sys, edgeclf; shutil.copytree(sys.argv[1], 'run'); edgeclf.quantize('run', overwrite=True)"
    return [*tasks, Task("host", "quantize", [sys.executable, "-c", code, run])]


def watch(task: Task, folder: Path) -> dict[str, Any]:
    """Run one command and return its row."""
    logs = folder / "strace"
    logs.mkdir(parents=True)
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # A bundle is started as a device does: with nothing else of ours to be found.
    seen = observe(traced(task.command, logs), folder, environment if task.kind == "host" else {}, timeout_s=3600)
    if seen.status not in task.statuses:
        raise SystemExit(f"{task.name} ended with {seen.status}: {seen.err[-500:]}")
    sockets = [act.what for act in read_acts(logs, folder / "cwd") if is_remote(act)]
    files = [name for name in seen.files if name.startswith(("home/", "tmp/")) and not name.startswith(CACHES)]
    print(f"{task.kind} {task.name}: done", file=sys.stderr)
    counts = {"names": len(seen.names), "sockets": len(sockets), "packets": len(seen.packets), "id_files": len(files)}
    details = {"what": sorted({*seen.names, *sockets, *seen.packets, *files})}
    return {"kind": task.kind, "command": task.name, "status": seen.status, **counts, **details}


def is_remote(act: Act) -> bool:
    """Return whether it is a connection to another machine, or a port that others can reach."""
    return act.kind == "connection" and not any(local in act.what for local in _LOCAL)


def totals(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return the sums over all commands that are none of the controls."""
    return {name: sum(row[name] for row in rows if row["kind"] != "control") for name in COUNTS}


def facts() -> dict[str, Any]:
    """Return the machine's facts and each backend's version."""
    return {**machine_facts(), "backends": {backend: backend_version(backend) for backend in BACKENDS}}


if __name__ == "__main__":
    main()
