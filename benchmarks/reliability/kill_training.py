"""Checks that a training that is killed again and again ends with the same weights as one that was not.

    python3 benchmarks/reliability/kill_training.py DATA
    python3 benchmarks/reliability/kill_training.py DATA --kills 20 --finetune gradual --json

Method: a training without interruption first.  Then the same training, killed by SIGKILL at a random moment and started again
with ``--resume``: a quarter of the kills 0.5 to 15 s after the start, which takes most of that, the others 0 to 2 s after a new
checkpoint.  A training that ends in between is compared, and another one begins, until there were as many kills as asked for.
Equal means: every tensor of model.safetensors and every line of metrics.csv, byte by byte.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgeclf_runtime.device.machine import machine_facts

COMPARED = ("model.safetensors", "metrics.csv", "split.csv")
EARLY = 0.25


def main() -> None:
    """Train, kill, resume, compare, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="as edgeclf train takes it")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--finetune", default="full", choices=("head", "gradual", "full"))
    parser.add_argument("--backbone", default="mobilenetv3_small_050")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(arguments, Path(folder))
    if arguments.json:
        print(json.dumps({**vars(arguments), **report, "machine": machine_facts()}))
    else:
        print(
            f"{report['killed']} kills, {report['with_checkpoint']} of them with a checkpoint, {report['whole_s']} s without"
        )
        print("equal" if report["equal"] else "NOT EQUAL: " + ", ".join(report["different"]))
    raise SystemExit(not report["equal"])


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Train once without and once with kills; returns what was counted, and whether the runs are equal."""
    start = time.monotonic()
    subprocess.run(command(arguments, folder / "whole"), check=True, stdout=subprocess.DEVNULL)
    whole_s = time.monotonic() - start
    moments = random.Random(arguments.seed)
    killed = with_checkpoint = trainings = 0
    different: list[str] = []
    while killed < arguments.kills:
        trainings += 1
        run = folder / f"run{trainings}"
        while killed < arguments.kills and not run.exists():
            if kill_once(arguments, run, moments):
                killed += 1
                with_checkpoint += any(Path(f"{run}.unfinished").glob("*.ckpt"))
                print(f"kill {killed}", file=sys.stderr)
        subprocess.run(command(arguments, run), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        files = [name for name in COMPARED if (folder / "whole" / name).read_bytes() != (run / name).read_bytes()]
        different += [f"{name} of training {trainings}" for name in files]
    return {
        "killed": killed,
        "with_checkpoint": with_checkpoint,
        "trainings": trainings,
        "whole_s": round(whole_s, 1),
        "equal": not different,
        "different": different,
    }


def kill_once(arguments: argparse.Namespace, run: Path, moments: random.Random) -> bool:
    """Start a training and kill it; False if it ended before."""
    checkpoint = Path(f"{run}.unfinished", "network.ckpt" if arguments.finetune != "head" else "head.ckpt")
    before = written(checkpoint)
    process = subprocess.Popen(command(arguments, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if moments.random() < EARLY:
        end = time.monotonic() + moments.uniform(0.5, 15)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
    else:
        while process.poll() is None and written(checkpoint) == before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 2))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def written(file: Path) -> float:
    """Return when a file was written, 0 if there is none."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def command(arguments: argparse.Namespace, output: Path) -> list[str]:
    """Return the command that trains, or goes on."""
    names = ("finetune", "backbone", "weights", "image_size", "epochs", "workers")
    options = [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in names]
    extra = ["--ema=0.9", "--mixup=0.2", "--balance=sampler", "--batch-size=16", "--resume"]
    return [sys.executable, "-m", "edgeclf", "train", arguments.data, "--output", str(output), *options, *extra]


if __name__ == "__main__":
    main()
