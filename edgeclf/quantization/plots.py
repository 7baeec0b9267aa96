"""Pictures of the quantization report, as SVG."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

from ..display.report import drawable, new_figure
from ..evaluation.comparison import Comparison
from .histograms import Histogram
from .ranges import METHODS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .report import QuantizeReport

_PAGE_WIDTH = 11.0

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
    for axis, values, text in (
        (size, [report.size_fp32 / 1e6, *(file.size / 1e6 for file in files)], "{:.1f}"),
        (latency, [report.latency_fp32_ms, *(file.latency_ms for file in files)], "{:.2f}"),
    ):
        axis.bar_label(axis.barh(rows, values, color=colors), [text.format(value) for value in values], padding=3)
        axis.margins(x=0.2)
        axis.set_yticks([])
    drop.set_yticks(rows, names)
    drop.set(xlabel=f"drop of accuracy, 95 % interval (dashed: limit {report.max_drop:g})")
    size.set(xlabel="size, MB")
    latency.set(xlabel="latency on this CPU, ms")
    for axis in (drop, size, latency):
        axis.set_ylim(len(names) - 0.4, -0.6)
    return figure


def draw_drops(files: Mapping[str, Comparison], labels: Sequence[str], max_drop: float) -> str:
    """Draw each file's drop of accuracy with its interval, and of recall for the labels named; returns SVG."""
    figure, (whole, by_label) = new_figure(2, _PAGE_WIDTH / 2, height=1.4 + 0.28 * max(len(files), len(labels)))
    for number, (name, file) in enumerate(files.items()):
        low, high = file.drop_interval
        whole.errorbar(file.drop, number, xerr=[[file.drop - low], [high - file.drop]], fmt="o", capsize=4)
        # Beside each other, so that equal ones do not hide each other.
        places = np.arange(len(labels)) + 0.6 * ((number + 0.5) / len(files) - 0.5)
        by_label.plot([file.drop_by_label[label] for label in labels], places, "o", markersize=5, label=name)
    whole.axvline(max_drop, color="black", linestyle="--", label=f"accepted: {max_drop:g}")
    whole.set_yticks(range(len(files)), list(files))
    whole.set(xlabel="drop of accuracy, 95 % interval", ylim=(len(files) - 0.5, -0.5))
    by_label.set_yticks(range(len(labels)), [_shorten(label, 24) for label in labels], parse_math=False)
    by_label.set(xlabel="drop of recall, by label", ylim=(len(labels) - 0.5, -0.5))
    for axis in (whole, by_label):
        axis.axvline(0, color="0.7", linewidth=0.8, zorder=0)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, fontsize="small", frameon=False)
    return _svg(figure)


def draw_histograms(histograms: Mapping[str, Histogram], titles: Sequence[str]) -> str:
    """Draw how each layer's values are distributed, and the range that each method gives them; returns SVG."""
    from matplotlib.figure import Figure

    rows = -(-len(histograms) // 2)
    figure = Figure(figsize=(_PAGE_WIDTH, 0.5 + 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False).flat
    for axis, (name, histogram), title in zip(axes, histograms.items(), titles, strict=False):
        seen = histogram.counts > 0
        values, counts = histogram.centers[seen], histogram.counts[seen]
        axis.hist(values, 150, weights=counts, log=True, histtype="stepfilled", color="0.75")
        for number, (method, find) in enumerate(METHODS.items()):
            # Each line is thinner than the one before it, so that equal ones are all seen.
            style = {"color": f"C{number}", "linewidth": 5.2 - 1.4 * number}
            low, high = find(histogram)
            axis.axvline(low, label=method, **style)
            axis.axvline(high, **style)
        axis.set_title(f"{_shorten(name, _NAME_LENGTH)}\n{title}", fontsize="small", parse_math=False)
        axis.tick_params(labelsize="small")
    for axis in list(axes):
        axis.remove()
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    return _svg(figure)


def _shorten(name: str, length: int) -> str:
    """Return a name that fits, its middle left out."""
    return drawable(name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-(length // 2) :]}")


def _svg(figure: Figure) -> str:
    import matplotlib

    text = StringIO()
    # Letters as letters: a browser has more of them than matplotlib's font, which need not warn of those that it lacks.
    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
