"""Every figure over the project's history, from git's versions of the files in ``benchmarks/reference``.

    python3 benchmarks/figures/history.py
    python3 benchmarks/figures/history.py --write

Method: each version of a reference file that a commit made is read for its most telling figures, with the commit's date; a value
that did not change is shown once, and what is not committed yet comes last, as *now*.  Machines and versions of libraries
changed too (each file names its own), so ratios say more than times.  All of it belongs to version 0.1.0 of the changelog.

``--write`` puts the table into ``benchmarks/NOTES.md``, between its marks.  Exit codes: 0 done, 1 this is not a git repository.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pages

ROOT = Path(__file__).parents[2]
REFERENCE, PAGE = "benchmarks/reference", ROOT / "benchmarks" / "NOTES.md"
BEGIN, END = "<!-- history: python3 benchmarks/figures/history.py --write -->", "<!-- end of history -->"
NOW = "now"
_OURS, _TORCH, _FP32 = "edgeclf int8-cpu", "torch eager NCHW", "ONNX Runtime FP32"
# By file: what a figure is, and where it is in the JSON.  "*" is the number of entries, "max KEY" the largest of a list.
FIGURES: dict[str, dict[str, str]] = {
    "overhead.json": {
        "frame to label relative to bare inference, FP32": "models/fp32/ratio",
        "the same, INT8": "models/int8-cpu/ratio",
    },
    "pipeline.json": {
        "frame to label relative to the bare session, FP32": "rows/edgeclf fp32/to_bare/median",
        "the same, INT8": "rows/edgeclf int8-cpu/to_bare/median",
    },
    **{
        file: {
            f"{what}, INT8, p50 ms": f"rows/{_OURS}/p50",
            "ONNX Runtime FP32 relative to it": f"rows/{_FP32}/ratio/median",
            "torch eager relative to it": f"rows/{_TORCH}/ratio/median",
        }
        for file, what in {
            "solar.json": "EfficientNet-Lite0, batch 1",
            "solar_8.json": "EfficientNet-Lite0, batch 8",
            "resnet18.json": "ResNet-18, one thread",
            "resnet18_2.json": "ResNet-18, two threads",
        }.items()
    },
    "streaming.json": {
        "rate of a camera relative to bare throughput": "ratio",
        "age of a frame at its label, p99 ms": "live_p99_ms",
    },
    "folder.json": {"folder relative to the slower of decoding and inference": "rows/run/of_slower"},
    "startup.json": {
        "--help beyond the interpreter's start, s": "median_s/help_over_interpreter",
        "first label beyond the backend's load, s": "median_s/first_label_over_backend",
    },
    "training.json": {"cached features, times faster than the tutorials' loop": "ratio"},
    "demo.json": {
        "demo, accuracy FP32": "summary/accuracy_fp32",
        "demo, accuracy INT8": "summary/accuracy_int8",
        "demo, seconds": "seconds_median",
        "demo, MB at most": "peak_memory_mb",
    },
    "agreement.json": {"labels of 655 that Python 3.6 agrees with": "labels_agree"},
    "accuracy.json": {"networks and files compared in accuracy": "rows/*"},
    "backbones.json": {"backbones taken to a self-test": "backbones/*"},
    "golden_runtimes.json": {"correct models refused": "refused", "of models": "models"},
    "endurance.json": {"two hours of run, MB grown": "grew_mb"},
    "cameras.json": {"a lost camera is noticed, p99 s, at most": "losses/max detected_s/p99"},
    "cameras_10.json": {"the same, ten cameras": "losses/max detected_s/p99"},
    "reliability_bundles.json": {"changed bundles": "trials", "wrongly accepted": "wrong/*"},
    "reliability_images.json": {"damaged images that crashed": "failed/crashed", "of": "count"},
    "reliability_kills.json": {"kills": "kills", "mixed outputs, at most": "rows/max mixed"},
    "reliability_network.json": {"packets of any command": "total/packets", "host names looked up": "total/names"},
}


def main() -> None:
    """Print the table, or write it into the notes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="update benchmarks/NOTES.md")
    arguments = parser.parse_args()
    table = pages.markdown(["file", "figure", "date: value"], list(rows()))
    if arguments.write:
        pages.write_table(PAGE, BEGIN, END, table)
        print(f"{PAGE.relative_to(ROOT)} has the history of {len(FIGURES)} files")
    else:
        print(table)


def rows() -> Iterator[list[str]]:
    """Give the rows of the table."""
    for file, figures in FIGURES.items():
        versions = list(read_versions(file))
        for title, where in figures.items():
            points = [(date, value) for date, report in versions if (value := figure(report, where)) is not None]
            changes = [point for at, point in enumerate(points) if not at or points[at - 1][1] != point[1]]
            yield [f"`{file}`", title, ", ".join(f"{date}: {_shown(value)}" for date, value in changes)]


def read_versions(file: str) -> Iterator[tuple[str, Any]]:
    """Give the date and the contents of each version of a reference file, the oldest first, and the one on disk last."""
    path = f"{REFERENCE}/{file}"
    for line in _git("log", "--reverse", "--no-merges", "--format=%H %cs", "--", path).splitlines():
        commit, date = line.split()
        shown = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=ROOT, capture_output=True, text=True)
        if not shown.returncode:  # the commit may have removed it
            yield date, json.loads(shown.stdout)
    if _git("status", "--porcelain", "--", path):
        yield NOW, json.loads((ROOT / path).read_text(encoding="utf-8"))


def figure(report: Any, where: str) -> float | None:
    """Return a figure of a report, or None if this version of it has none."""
    value = report
    keys = where.split("/")
    for at, key in enumerate(keys):
        largest = re.fullmatch(r"max (\w+)", key)
        if key == "*":
            value = len(value)
        elif largest:
            inner = "/".join([largest.group(1), *keys[at + 1 :]])
            found = [one for one in (figure(row, inner) for row in value) if one is not None]
            return max(found, default=None)
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return None
    return float(value) if isinstance(value, (int, float)) else None


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"error: git {arguments[0]} failed: {done.stderr.strip()}; a clone with its history was expected"
        )
    return done.stdout


if __name__ == "__main__":
    main()
