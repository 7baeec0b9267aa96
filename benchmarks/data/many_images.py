"""Measures whether the memory used to check a data set, and to start training on it, grows with the images.

    python3 benchmarks/data/many_images.py [--images 10000 50000 100000]

Method: pictures of 32 x 32 pixels, each another one, in ten class folders.  For each number of them, ``edgeclf check`` runs to its
end, and ``edgeclf train --finetune full`` until its first steps; both are processes of their own.  Given is the largest
memory that only they have (RssAnon of /proc, of the process that leads), and how much of it each further image took.  A path of
such an image is about 60 bytes of text, and a list that also has its label and split about 600 bytes in Python.

Exit codes: 0 each further image took less than 2,000 bytes; 1 more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from edgeclf_runtime.device.machine import machine_facts

LABELS = 10
MOST_BYTES = 2000
NETWORK = ("--backbone", "mobilenetv3_small_050", "--weights", "none", "--image-size", "32", "--batch-size", "64")


def main() -> None:
    """Write the images, run the commands, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 50_000, 100_000])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        for count in sorted(arguments.images):
            write_images(data, count)
            rows.append({"images": count, **measure(data, Path(folder, f"run{count}"))})
            print(rows[-1], file=sys.stderr)
    first, last = rows[0], rows[-1]
    further = max(1, last["images"] - first["images"])
    growth = {name: round((last[name] - first[name]) * 2**20 / further) for name in ("check_mib", "train_mib")}
    if arguments.json:
        print(json.dumps({"rows": rows, "bytes_per_image": growth, "machine": machine_facts()}))
    else:
        print(" images  check MiB  seconds  train MiB  seconds")
        for row in rows:
            print("{images:7}  {check_mib:9.0f}  {check_s:7.0f}  {train_mib:9.0f}  {train_s:7.0f}".format(**row))
        print(f"each further image: {growth['check_mib']} bytes in check, {growth['train_mib']} in train")
    raise SystemExit(int(max(growth.values()) > MOST_BYTES))


def write_images(data: Path, count: int) -> None:
    """Add pictures until there are so many: blobs of random places and sizes."""
    for number in range(count):
        file = data / str(number % LABELS) / f"{number:06d}.png"
        if file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(number)
        coarse = random.integers(0, 256, (6, 6, 3), np.uint8)
        cv2.imwrite(str(file), cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC))


def measure(data: Path, run: Path) -> dict[str, float]:
    """Return the memory and the seconds of both commands."""
    start = time.monotonic()
    check = peak([sys.executable, "-m", "edgeclf", "check", str(data)], None)
    middle = time.monotonic()
    train = peak(
        [sys.executable, "-m", "edgeclf", "train", str(data), "--output", str(run), "--finetune", "full", *NETWORK],
        "training all layers",
    )
    return {
        "check_mib": check,
        "check_s": middle - start,
        "train_mib": train,
        "train_s": time.monotonic() - middle,
    }


def peak(command: list[str], until: str | None) -> float:
    """Return a command's largest RssAnon in MiB; until: what it prints shortly before it is ended."""
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        most, seen_at = 0.0, None
        while process.poll() is None:
            most = max(most, anonymous_mib(process.pid))
            if until is not None and seen_at is None:
                printed.seek(0)
                seen_at = time.monotonic() if until in printed.read() else None
            if seen_at is not None and time.monotonic() > seen_at + 5:
                process.terminate()  # in the background, SIGINT is ignored
                process.wait()
            time.sleep(0.1)
        printed.seek(0)
        if until is None and process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{printed.read()[-2000:]}")
        return most


def anonymous_mib(pid: int) -> float:
    """Return the memory that a process shares with no file, in MiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


if __name__ == "__main__":
    main()
