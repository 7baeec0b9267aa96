"""Measures the time and the memory of the demo.

    python3 benchmarks/speed/demo.py --repeat 3

Method: ``edgeclf demo`` is run in a fresh process each time, with a fresh output folder; the wall time is that
of the whole process, imports included, and the memory is the largest resident size of it or one of its children.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgeclf_runtime.commands.bench import machine_facts


def main() -> None:
    """Run the demo a few times and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    runs = [_run() for _ in range(arguments.repeat)]
    report = {
        "seconds": [round(run["wall_s"], 1) for run in runs],
        "seconds_median": round(statistics.median(run["wall_s"] for run in runs), 1),
        "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
        "summary": runs[-1]["summary"],
        "machine": machine_facts(),
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        print(
            f"demo: median {report['seconds_median']} s of {report['seconds']}, peak memory {report['peak_memory_mb']} MB"
        )


def _run() -> dict:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "demo")
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeclf", "demo", "--output", str(output)], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit("the demo failed")
        return {
            "wall_s": time.monotonic() - start,
            "peak_memory_mb": usage.ru_maxrss >> 10,
            "summary": json.loads((output / "summary.json").read_text()),
        }


if __name__ == "__main__":
    main()
