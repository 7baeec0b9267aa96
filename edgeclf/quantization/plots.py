"""Charts of the quantization page, and the figure of the report's plot()."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..display.page.charts import Area, Chart, Dot, Line, Rule, row_axes, row_height, shortened, span, xy_axes
from ..display.report import ms_text, new_figure
from ..evaluation.comparison import Comparison
from ..graph.int8.histograms import Histogram
from ..graph.int8.ranges import METHODS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .report import QuantizeReport

_BARS = 120
_NAME_LENGTH = 56


def draw_files(report: QuantizeReport) -> Figure:
    """Draw each file's drop of accuracy, size and latency beside those of FP32."""
    files = report.compared
    figure, (drop, size, latency) = new_figure(3, 4.0, height=1.6 + 0.32 * len(files))
    names = ["fp32", *(file.name for file in files)]
    rows = range(len(names))
    drop.plot(0, 0, "o", color="black")
    for row, file in enumerate(files, 1):
        found = file.comparison
        low, high = found.drop_interval
        drop.errorbar(
            found.drop, row, xerr=[[found.drop - low], [high - found.drop]], fmt="o", capsize=4, color=f"C{row - 1}"
        )
    drop.axvline(report.max_drop, color="black", linestyle="--", linewidth=0.8)
    drop.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    colors = ["0.4", *(f"C{row}" for row in range(len(files)))]
    sizes = [report.size_fp32 / 1e6, *(file.size / 1e6 for file in files)]
    times = [report.latency_fp32_ms, *(file.own_ms for file in files)]
    for axis, values, texts in (
        (size, sizes, [f"{value:.1f}" for value in sizes]),
        (latency, [time or 0.0 for time in times], [ms_text(time, 2) for time in times]),
    ):
        axis.bar_label(axis.barh(rows, values, color=colors), texts, padding=3)
        axis.margins(x=0.2)
        axis.set_yticks([])
    drop.set_yticks(rows, names)
    drop.set(xlabel=f"drop of accuracy, 95 % interval (dashed: limit {report.max_drop:g})")
    size.set(xlabel="size, MB")
    latency.set(xlabel="latency on this CPU, ms (-: not for it)")
    for axis in (drop, size, latency):
        axis.set_ylim(len(names) - 0.4, -0.6)
    return figure


def drop_chart(files: Mapping[str, Comparison], max_drop: float) -> Chart:
    """Return each file's accuracy drop with its interval."""
    low, high = span([end for file in files.values() for end in file.drop_interval], 0.0, max_drop)
    x, y = row_axes((low, high), list(files), "accuracy drop, 95% interval")
    dots = tuple(
        Dot(file.drop, number, number, across=file.drop_interval, title=f"{name}: {file.drop:+.4f}")
        for number, (name, file) in enumerate(files.items())
    )
    return Chart(
        "Accuracy drop",
        x,
        y,
        ((None, f"accepted: {max_drop:g}"),),
        dots=dots,
        rules=(Rule(x=0.0), Rule(x=max_drop, dashed=True, width=1.5)),
        height=row_height(list(files)),
    )


def recall_chart(files: Mapping[str, Comparison], labels: Sequence[str]) -> Chart:
    """Return each file's recall drop by label."""
    drops = [file.drop_by_label[label] for file in files.values() for label in labels]
    x, y = row_axes(span(drops, 0.0), labels, "recall drop, by label")
    # Beside each other, so that equal ones do not hide each other.
    dots = tuple(
        Dot(
            file.drop_by_label[label],
            row + 0.6 * ((number + 0.5) / len(files) - 0.5),
            number,
            title=f"{name}, {label}: {file.drop_by_label[label]:+.4f}",
        )
        for number, (name, file) in enumerate(files.items())
        for row, label in enumerate(labels)
    )
    return Chart(
        "Recall drop",
        x,
        y,
        tuple(enumerate(files)),
        dots=dots,
        rules=(Rule(x=0.0),),
        height=row_height(labels),
    )


def time_chart(report: QuantizeReport) -> Chart:
    """Return accuracy against time: of FP32, and of every form that was evaluated; a line joins those that none surpasses in both."""
    points = [("fp32", report.latency_fp32_ms, report.accuracy_fp32)]
    for file in report.files:
        points += [
            (f"{file.name}, {trial.form}", trial.latency_ms, trial.accuracy)
            for trial in file.findings.forms
            if trial.accuracy is not None
        ]
    best: list[tuple[float, float]] = []
    for _, time, accuracy in sorted(points, key=lambda point: (point[1], -point[2])):
        if not best or accuracy > best[-1][1]:
            best.append((time, accuracy))
    names = list(dict.fromkeys(name.partition(",")[0] for name, _, _ in points))
    low, high = span([accuracy for *_, accuracy in points])
    x, y = xy_axes(span([time for _, time, _ in points], 0.0), (low, min(1.0, high)), ("ms", "accuracy"), "y")
    dots = tuple(
        Dot(time, accuracy, names.index(name.partition(",")[0]), title=f"{name}: {time:.2f} ms, {accuracy:.4f}")
        for name, time, accuracy in points
    )
    return Chart("Time and accuracy", x, y, tuple(enumerate(names)), lines=(Line(best, 0, dashed=True),), dots=dots)


def histogram_charts(
    histograms: Mapping[str, Histogram], notes: Sequence[str], ranges: Mapping[str, Sequence[tuple[float, float]]]
) -> list[Chart]:
    """Return how each layer's values are distributed, and the range that each method gives them."""
    return [
        _histogram(name, histogram, note, ranges[name])
        for (name, histogram), note in zip(histograms.items(), notes, strict=True)
    ]


def _histogram(name: str, histogram: Histogram, note: str, ranges: Sequence[tuple[float, float]]) -> Chart:
    seen = histogram.counts > 0
    values, counts = histogram.centers[seen], histogram.counts[seen]
    heights, edges = np.histogram(values, _BARS, weights=counts)
    # Logarithmic: rare values at the ends are what the methods disagree about.
    tall = np.log10(np.maximum(heights, 0) + 1)
    ends = [end for pair in ranges for end in pair]
    x, y = xy_axes(
        span(ends, float(edges[0]), float(edges[-1]), margin=0.02), (0.0, float(tall.max()) * 1.05), ("value", "")
    )
    points = [(float(edges[0]), 0.0)]
    for left, right, height in zip(edges[:-1], edges[1:], tall, strict=True):
        points += [(float(left), float(height)), (float(right), float(height))]
    points.append((float(edges[-1]), 0.0))
    # Each line is thinner than the one before it, so that equal ones are all seen.
    rules = tuple(
        Rule(x=end, series=number, width=5.2 - 1.4 * number) for number, pair in enumerate(ranges) for end in pair
    )
    return Chart(
        shortened(name, _NAME_LENGTH),
        x,
        y,
        tuple(enumerate(METHODS)),
        areas=(Area(points, None),),
        rules=rules,
        note=note,
    )
