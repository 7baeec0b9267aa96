"""Measures whether the memory of a long run grows.

    python3 benchmarks/streams/endurance.py NAME.edge --minutes 60

Method: ``run`` classifies a generated camera of 1280 x 720 at 30 frames a second, as a device would: a process of its
own, started from the bundle, with results in a rotating file and the live page open.  Every 10 seconds its memory
(RSS, the capture process's too), threads and file descriptors are read.  Growth is the median of the last tenth of the
time less the median of the tenth after the first half.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edgeclf_runtime.commands.bench import machine_facts

FPS = 30


def main():
    """Run it and print what grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=10.0, metavar="S", help="seconds between two readings (10)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, arguments.bundle, "run", "--source", "test://", "--quiet", "--live", "0"]
        command += ["--width", "1280", "--height", "720", "--fps", str(FPS), "--threads", "1", "--smooth", "0.5"]
        command += ["--sink", os.path.join(folder, "results.jsonl")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        readings = watch(process.pid, arguments.minutes * 60, arguments.every)
        process.send_signal(signal.SIGTERM)
        summary = process.communicate()[1].decode().strip().splitlines()[-1]
    report = dict(growth(readings), minutes=arguments.minutes, summary=summary, readings=len(readings))
    if arguments.json:
        print(json.dumps(dict(report, machine=machine_facts())))
        return
    print(summary)
    print("memory after half the time {half_mb:.1f} MB, at the end {end_mb:.1f} MB: {grew_mb:+.2f} MB".format(**report))
    print("threads {threads:+d}, file descriptors {descriptors:+d} over the second half".format(**report))


def watch(pid, seconds, every_s):
    """Return a reading every so often."""
    end = time.monotonic() + seconds
    readings = []
    while time.monotonic() < end:
        time.sleep(min(every_s, max(0.0, end - time.monotonic())))
        readings.append(read(pid))
        print(
            f"\r{(seconds - end + time.monotonic()) / 60:.1f} min, {readings[-1][0]:.1f} MB ",
            end="",
            file=sys.stderr,
        )
    print(file=sys.stderr)
    return readings


def read(pid):
    """Return memory in MB, threads and file descriptors of a process, its children's memory included."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return (
        sum(memory_mb(each) for each in [pid, *children]),
        len(os.listdir(f"/proc/{pid}/task")),
        len(os.listdir(f"/proc/{pid}/fd")),
    )


def memory_mb(pid):
    """Return a process's resident memory in MB."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line]
    return int(line.split()[1]) / 1024


def growth(readings):
    """Return the memory after half the time and at the end, and what grew between."""
    tenth = max(1, len(readings) // 10)
    middle, last = readings[len(readings) // 2 :][:tenth], readings[-tenth:]
    half, end = (float(np.median([reading[0] for reading in part])) for part in (middle, last))
    return {
        "half_mb": round(half, 2),
        "end_mb": round(end, 2),
        "grew_mb": round(end - half, 2),
        "threads": last[-1][1] - middle[0][1],
        "descriptors": last[-1][2] - middle[0][2],
    }


if __name__ == "__main__":
    main()
