"""Measures edgeclf predict --output: Ray's rate beside the local engine's, and what killed processes cost.

    python3 benchmarks/data/bulk.py MODEL

Method: JPEGs of 96 x 96 pixels are made from scikit-learn's digits, each moved and brightened at random.  In each round the
local engine and Ray classify the same images, in turns, each as a command of its own with the same number of processes; rounds
are short, so that the machine's other work falls on both.  The rate is that between the first and the last part that is done, and
the start is the time from the command's to the first part.  "for 10000" computes the rate of a whole command with so many images from
both.  The processor time of an image is that of all processes of the command, between the same two parts: other programs change it
less than the rate, and the scheduler may give one engine's processes a larger share than the other's.  In a last round of more images, one of the processes that classify is killed by SIGKILL every so many seconds.  The outputs of
a round are compared byte by byte, and the rows and the different paths in them are counted.
"""

import argparse
import contextlib
import csv
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
from sklearn.datasets import load_digits

sys.path[:0] = [str(pathlib.Path(__file__).parents[2]), str(pathlib.Path(__file__).parents[2] / "deploy")]

from edgeclf_runtime.device.machine import machine_facts  # noqa: E402

ENGINES = ("local", "ray")
SIDE = 96
PART = 64
MARKS = (b"edgeclf.evaluation.bulk.worker", b"ray::_classify")


def main():
    """Make the images, run the rounds, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=2000, metavar="N", help="of a round without kills (2000)")
    parser.add_argument("--rounds", type=int, default=4, metavar="N", help="rounds without kills (4)")
    parser.add_argument(
        "--killed-images", type=int, default=10_000, metavar="N", help="of the round with kills, 0: none (10000)"
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that classify (2)")
    parser.add_argument("--kill-every", type=float, default=10, metavar="S", help="in the last round (10)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bulk.") as folder:
        make_images(pathlib.Path(folder, "few"), arguments.images)
        make_images(pathlib.Path(folder, "many"), arguments.killed_images)
        found = measure(arguments, pathlib.Path(folder))
    if arguments.json:
        print(json.dumps({**found, "load": os.getloadavg(), "machine": machine_facts()}))
    else:
        show(found)


def make_images(folder, count):
    """Write JPEGs whose pixels all differ."""
    rng, pictures = np.random.default_rng(0), load_digits().images
    for number in range(count):
        picture = cv2.resize((pictures[number % len(pictures)] * 15.9).astype(np.uint8), (SIDE, SIDE))
        picture = np.roll(picture, rng.integers(-8, 9, 2), (0, 1)).astype(int) + rng.integers(0, 60)
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.clip(picture + rng.integers(0, 9, picture.shape), 0, 255).astype(np.uint8))


def measure(arguments, folder):
    """Return each call's figures, and whether both outputs of every round are the same bytes."""
    calls, same = [], True
    for number in range(arguments.rounds + bool(arguments.killed_images)):
        last = number == arguments.rounds
        images, kill_every = (folder / "many", arguments.kill_every) if last else (folder / "few", 0)
        # Whatever the machine does between the turns falls on one engine as often as on the other.
        engines = ENGINES if number % 2 == 0 else ENGINES[::-1]
        calls += [call(arguments, folder / f"{number}-{engine}.csv", images, engine, kill_every) for engine in engines]
        local, ray = ((folder / f"{number}-{engine}.csv").read_bytes() for engine in ENGINES)
        same &= local == ray
    return {"calls": calls, "same_bytes": same}


def call(arguments, output, images, engine, kill_every):
    """Run one command, and kill one of its processes now and then."""
    command = [sys.executable, "-m", "edgeclf", "predict", arguments.model, images, "--output", output, "--json"]
    command += ["--engine", engine, "--workers", str(arguments.workers)]
    start, kills, seen, times = time.monotonic(), 0, [(0.0, 0, 0.0)], {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        due = start + kill_every
        while process.poll() is None:
            time.sleep(0.05)
            done = PART * len(list(pathlib.Path(f"{output}.unfinished").glob("0*.jsonl")))
            if done > seen[-1][1]:
                seen.append((time.monotonic() - start, done, processor_s(process.pid, times)))
            if kill_every and time.monotonic() > due:
                due += kill_every
                kills += kill_one(process.pid)
        report = json.loads(process.communicate()[0])
    (first, few, before), (end, many, after) = seen[1], seen[-1]
    with open(output, newline="", encoding="utf-8") as stream:
        paths = [row["path"] for row in csv.DictReader(stream)]
    rate = (many - few) / (end - first)
    return {
        "engine": engine,
        "images_per_s": round(rate, 1),
        "processor_ms": round(1000 * (after - before) / (many - few), 2),
        "start_s": round(first - few / rate, 1),
        "for_10000": round(10_000 / (first + (10_000 - few) / rate), 1),
        "kills": kills,
        "rows": len(paths),
        "lost": report["images"] - len(set(paths)),
        "repeated": len(paths) - len(set(paths)),
    }


def processor_s(pid, times):
    """Return the processor time of a process and of all that it has started; times: of each by its id, since some end before."""
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            times[one] = int(fields[11]) + int(fields[12])
    return sum(times.values()) / os.sysconf("SC_CLK_TCK")


def kill_one(pid):
    """Kill one of the processes that classify; return whether there was one."""
    workers = [child for child in descendants(pid) if any(mark in command_line(child) for mark in MARKS)]
    if workers:
        os.kill(random.choice(workers), signal.SIGKILL)
    return bool(workers)


def descendants(pid):
    """Yield the processes that a process has started, and theirs."""
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            yield int(child)
            yield from descendants(int(child))


def command_line(pid):
    """Return a process's command line, b"" if it has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def show(found):
    """Print a table, and the ratios of the rounds."""
    print(
        "| engine | images a second | processor time of an image, ms | start, s | a second for 10000 | killed | rows | lost | repeated |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in found["calls"]:
        print("| " + " | ".join(str(value) for value in one.values()) + " |")
    for name in ("images_per_s", "processor_ms", "for_10000"):
        ratios = []
        for pair in zip(found["calls"][::2], found["calls"][1::2], strict=True):
            if any(one["kills"] for one in pair):
                continue
            by_engine = {one["engine"]: one[name] for one in pair}
            ratios.append(by_engine["ray"] / by_engine["local"])
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{name}: Ray's beside the local engine's {statistics.median(ratios):.2f}, the median of {shown}")
    print("both outputs of every round are the same bytes:", found["same_bytes"])


if __name__ == "__main__":
    main()
