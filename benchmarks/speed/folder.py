"""Measures the classification of a folder of many images, relative to decoding and inference by themselves, and its memory.

    python3 benchmarks/speed/folder.py NAME.edge --images 10000

Method: a folder of so many files (links to the photographs of the package ``elpv-dataset``, 300 x 300 PNG, or to those of
``--photos FOLDER``, over and over) is gone through by four programs in turns, each a process of its own:
  decode      ``read_image`` of every file: reading, checking, decoding
  inference   ``Runner.infer`` of one input made beforehand, as often
  classify    ``python3 NAME.edge classify``, the names given, a line for each image
  run         ``python3 NAME.edge run --source FOLDER --quiet``
The rate is images by seconds of the whole process, less those that it takes with ten images, so that start-up does not
count.  Memory (RSS, the largest of it and its children's together) is read twice a second; given are the most in the
second tenth of the time and the most in the last tenth.  The files were read once before, so that no disk is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.images.read import is_image_name

PROGRAMS = ("decode", "inference", "classify", "run")
_FEW = 10


def main() -> None:
    """Time the programs in turns and print the medians of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("--model", default="int8-cpu")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--photos", type=Path, metavar="FOLDER")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the backend (all cores)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=PROGRAMS[:2], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        {"decode": decode, "inference": infer}[arguments.worker](arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        many, few = link_images(arguments, Path(folder, "many")), link_images(arguments, Path(folder, "few"), _FEW)
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.programs}
        for _ in range(arguments.rounds):
            for name in arguments.programs:
                rows[name].append(go_through(arguments, name, many, few))
                print(f"{name}: {rows[name][-1]}", file=sys.stderr)
    report = summarize(rows)
    if arguments.json:
        facts = {"images": arguments.images, "threads": arguments.threads, "model": arguments.model}
        print(json.dumps({"benchmark": "folder", **facts, **report, "machine": machine_facts()}))
        return
    for name, row in report["rows"].items():
        share = f"{row['of_slower']:6.3f} of the slower of decode and inference" if "of_slower" in row else ""
        print(
            f"{name:<10} {row['images_per_s']:8.1f} images a second  {row['early_mb']:6.1f} MB, at the end {row['late_mb']:6.1f} MB  {share}"
        )


def link_images(arguments: argparse.Namespace, folder: Path, count: int | None = None) -> Path:
    """Fill a folder with links to photographs, over and over; returns it."""
    if arguments.photos:
        photos = sorted(path for path in arguments.photos.rglob("*") if is_image_name(path.name))
    else:
        from edgeclf.data.datasets import load_dataset
        from edgeclf.options import SplitOptions

        photos = [sample.path for sample in load_dataset("elpv", SplitOptions()).samples]
    folder.mkdir()
    for number, photo in enumerate(itertools.islice(itertools.cycle(photos), count or arguments.images)):
        (folder / f"{number:06d}{photo.suffix}").symlink_to(photo.resolve())
    for photo in photos:
        photo.read_bytes()
    return folder


def go_through(arguments: argparse.Namespace, name: str, many: Path, few: Path) -> dict[str, float]:
    """Return a program's images a second and its memory."""
    start_s, _ = timed(arguments, name, few)
    seconds, readings = timed(arguments, name, many)
    tenth = max(1, len(readings) // 10)
    return {
        "images_per_s": (len(os.listdir(many)) - _FEW) / (seconds - start_s),
        "early_mb": max(readings[tenth : 2 * tenth] or readings),
        "late_mb": max(readings[-tenth:]),
    }


def timed(arguments: argparse.Namespace, name: str, folder: Path) -> tuple[float, list[float]]:
    """Return the seconds that a program takes for a folder, and its memory in MB, read twice a second."""
    options = ["--model", arguments.model, "--threads", str(arguments.threads)]
    files = [str(folder / file) for file in sorted(os.listdir(folder))]
    command = {
        "decode": [__file__, str(folder), "--worker", "decode", *options],
        "inference": [__file__, arguments.bundle, "--worker", "inference", "--images", str(len(files)), *options],
        "classify": [arguments.bundle, "classify", *files, *options],
        "run": [arguments.bundle, "run", "--source", str(folder), "--quiet", *options],
    }[name]
    readings: list[float] = []
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError, ValueError):  # it has just ended
                readings.append(memory_mb(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        seconds = time.perf_counter() - start
        if process.returncode:
            assert process.stderr
            raise SystemExit(f"{name} failed: {process.stderr.read().decode()[-300:]}")
    return seconds, readings


def memory_mb(pid: int) -> float:
    """Return a process's resident memory and its children's in MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    statuses = [Path(f"/proc/{each}/status").read_text(encoding="ascii") for each in (pid, *children)]
    return sum(int(status.split("VmRSS:")[1].split()[0]) for status in statuses) / 1024


def decode(arguments: argparse.Namespace) -> None:
    """Decode every file of a folder."""
    from edgeclf_runtime.images.read import read_image

    for file in sorted(os.listdir(arguments.bundle)):
        read_image(os.path.join(arguments.bundle, file))


def infer(arguments: argparse.Namespace) -> None:
    """Infer one input, as often as there are images."""
    from edgeclf_runtime.classify.classifier import Classifier

    with Classifier.open(arguments.bundle, arguments.model, "onnxruntime", threads=arguments.threads) as classifier:
        spec = classifier.preprocessing
        pixels = np.random.RandomState(0).randint(0, 256, (spec.height, spec.width, 3)).astype(np.uint8)
        batch = classifier.prepare(pixels)
        for _ in range(arguments.images):
            classifier.runner.infer(batch)


def summarize(rows: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return the medians of the rounds by program, and of each rate by the slower of decode and inference in its round."""
    found = {
        name: {what: round(float(np.median([row[what] for row in values])), 2) for what in values[0]}
        for name, values in rows.items()
    }
    if "decode" in rows and "inference" in rows:
        for name in found.keys() - {"decode", "inference"}:
            ratios = [
                row["images_per_s"] / min(alone["images_per_s"] for alone in others)
                for row, *others in zip(rows[name], rows["decode"], rows["inference"], strict=True)
            ]
            found[name]["of_slower"] = round(float(np.median(ratios)), 3)
    return {"rows": found}


if __name__ == "__main__":
    main()
