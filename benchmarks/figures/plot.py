"""Pictures of what the benchmarks measured.

    python3 benchmarks/figures/plot.py latency LATENCY.json latency.png
    python3 benchmarks/figures/plot.py pareto ACCURACY.json pareto.png
    python3 benchmarks/figures/plot.py stages OVERHEAD.json stages.png

latency     the distribution of each contender of ``latency.py`` or ``pipeline.py``: the middle half as a box, the line at
            p50, whiskers to p1 and p99
pareto      accuracy against latency of each run and precision of ``accuracy.py``, with 95 % intervals; the line joins
            those that no other beats in both
stages      where the time from frame to label goes, of ``overhead.py`` or of a bundle's ``bench --json``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.files.outputs import new_file

_STAGES = ("preprocess", "transfer", "inference", "postprocess")
_DPI = 100


def main() -> None:
    """Draw one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(PICTURES))
    parser.add_argument("figures", type=Path, metavar="FILE.json")
    parser.add_argument("picture", type=Path, metavar="FILE.png")
    arguments = parser.parse_args()
    draw(arguments.kind, json.loads(arguments.figures.read_text(encoding="utf-8")), arguments.picture)


def draw(kind: str, report: Mapping[str, Any], path: Path) -> None:
    """Draw a report's picture of one kind as a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), dpi=_DPI, layout="constrained")
    PICTURES[kind](figure.subplots(), report)
    with new_file(path, overwrite=True) as work:
        figure.savefig(work, format="png")


def draw_latency(axis: Any, report: Mapping[str, Any]) -> None:
    """Draw a box for each row, the fastest on top."""
    rows = sorted(report["rows"].items(), key=lambda item: -item[1]["p50"])
    samples = [np.concatenate(row["rounds_ms"]) for _, row in rows]
    axis.boxplot(
        samples,
        orientation="horizontal",
        whis=(1, 99),
        showfliers=False,
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": "#9ecae1"},
        medianprops={"color": "black"},
    )
    axis.set_yticks(range(1, len(rows) + 1), [name for name, _ in rows], parse_math=False)
    for place, (_, row) in enumerate(rows, 1):
        axis.annotate(
            f"{row['p50']:.2f}", (row["p99"], place), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axis.set(xscale="log", title=_title(report))
    axis.set_xlabel("ms; box: middle half, line and figure: p50, whiskers: p1 and p99")
    for formatter in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        formatter("{x:g}")
    axis.tick_params(axis="x", which="minor", labelsize=7)
    axis.margins(x=0.1)
    axis.grid(axis="x", which="both", alpha=0.3)


def _title(report: Mapping[str, Any]) -> str:
    network = report.get("network", {})
    what = f"{network['backbone']}, {network['width']} x {network['height']}" if network else report["benchmark"]
    batch = f", batch {report['batch']}" if "batch" in report else ""
    return f"{what}{batch}, {report['threads']} threads, {report['machine']['processor']}"


def draw_pareto(axis: Any, report: Mapping[str, Any]) -> None:
    """Draw a point for each row that has a latency, its name beside it, and the line of the best."""
    rows = sorted((row for row in report["rows"] if "p50" in row), key=lambda row: (row["p50"], -row["accuracy"]))
    names = list(dict.fromkeys(f"{row['name']}, {row['size'][0]}" for row in rows))
    best = -1.0
    front = []
    for row in rows:
        accuracy = 100 * row["accuracy"]
        low, high = (100 * bound for bound in row["accuracy_interval"])
        name = f"{row['name']}, {row['size'][0]}"
        axis.errorbar(
            row["p50"],
            accuracy,
            [[accuracy - low], [high - accuracy]],
            fmt="o" if row["model"].startswith("int8") else "s",
            capsize=2,
            color=f"C{names.index(name)}",
            label=f"{name}, {row['model']}",
        )
        if row["accuracy"] > best:
            best = row["accuracy"]
            front.append((row["p50"], accuracy))
    axis.plot(*zip(*front, strict=True), color="gray", linestyle=":", zorder=0, label="no other is better in both")
    axis.set(
        xscale="log",
        xlabel="p50 of inference, ms",
        ylabel="accuracy, % (95 % interval)",
        title=f"accuracy against latency, {report['threads']} threads, {report['machine']['processor']}",
    )
    for formatter in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        formatter("{x:g}")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    axis.grid(alpha=0.3)


def draw_stages(axis: Any, report: Mapping[str, Any]) -> None:
    """Draw each model's stages one behind the other, at p50."""
    models = report.get("latency_ms") or {name: row["latency_ms"] for name, row in report["models"].items()}
    for place, stages in enumerate(models.values()):
        left = 0.0
        for number, stage in enumerate(name for name in _STAGES if stages.get(name)):
            width = stages[stage]["p50"]
            axis.barh(place, width, left=left, color=f"C{number}", label=None if place else stage)
            left += width
        parts = "  ".join(f"{name} {stages[name]['p50']:.2f}" for name in _STAGES if stages.get(name))
        axis.text(0, place - 0.45, f"{parts} ms", va="bottom", fontsize=8)
    axis.set_yticks(range(len(models)), list(models), parse_math=False)
    axis.set(xlabel="ms from frame to label (p50 of each stage)", title=report["machine"]["processor"])
    axis.invert_yaxis()
    axis.margins(y=0.15)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=len(_STAGES))


PICTURES = {"latency": draw_latency, "pareto": draw_pareto, "stages": draw_stages}


if __name__ == "__main__":
    main()
