"""Plots of confusion matrices and latencies, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.outputs import new_file

from ..display.page.charts import shortened
from ..display.report import new_figure, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .audit.report import AuditReport
    from .evaluate import Evaluation

_ROOMY, _COUNTED = 8, 20
"""Labels of a matrix that fits a figure of the usual size, and of one whose cells show count and share."""
_WIDEST = 14.0
_PAIRS, _NAME = 10, 20
"""Pairs of confused labels, and letters of a label's name, that a figure shows."""


def plot_confusion(evaluations: Mapping[str, Evaluation], path: str | Path) -> None:
    """Write the picture of draw_confusion() to a file."""
    _save(draw_confusion(evaluations), path)


def draw_confusion(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Draw the confusion matrices of one or more models side by side: rows true, columns predicted, shares by row."""
    side = min(_WIDEST, 4.5 + 0.3 * max(0, len(next(iter(evaluations.values())).labels) - _ROOMY))
    figure, axes = new_figure(len(evaluations), width=side + 0.5, height=side)
    for axis, (title, evaluation) in zip(axes, evaluations.items(), strict=True):
        counts = np.array(evaluation.confusion)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        indices = range(len(evaluation.labels))
        # A label may contain $, but is not a formula.
        axis.set_xticks(indices, evaluation.labels, rotation=45, ha="right", parse_math=False)
        axis.set_yticks(indices, evaluation.labels, parse_math=False)
        axis.set(
            xlabel="predicted",
            ylabel="true",
            title=f"{title}: accuracy {evaluation.accuracy:.2%}, {evaluation.images} images",
        )
        if len(indices) <= _COUNTED:
            for row in indices:
                for column in indices:
                    color = "white" if shares[row, column] > 0.5 else "black"
                    axis.text(
                        column,
                        row,
                        f"{counts[row, column]}\n{shares[row, column]:.0%}",
                        ha="center",
                        va="center",
                        color=color,
                    )
    return figure


def draw_audit(report: AuditReport) -> Figure:
    """Draw the number of findings of each kind by split, and the labels that are most often taken for others."""
    kinds: dict[str, list[str]] = {
        "wrong labels": [one.split for one in report.wrong_labels],
        "several labels": [one.split for group in report.conflicts for one in group],
        "near-duplicates": [one.split for group in report.duplicates for one in group],
        "outliers": [one.split for one in report.outliers],
        "small": [one.split for one in report.small],
        "not decoded": [one.split for one in report.unreadable],
    }
    pairs = report.confused[:_PAIRS]
    figure, (found, taken) = new_figure(2, width=5.5, height=1.4 + 0.35 * max(len(kinds), len(pairs)))
    left = np.zeros(len(kinds))
    for split in report.images:
        counts = np.array([splits.count(split) for splits in kinds.values()])
        found.barh(range(len(kinds)), counts, left=left, label=split)
        left += counts
    for row, total in enumerate(left):
        found.annotate(f"{total:.0f}", (total, row), (4, 0), textcoords="offset points", va="center")
    found.set_yticks(range(len(kinds)), list(kinds))
    found.set(xlabel="images", ylim=(len(kinds) - 0.5, -0.5))
    found.margins(x=0.15)
    found.legend()
    found.locator_params(axis="x", integer=True)
    taken.bar_label(taken.barh(range(len(pairs)), [pair.images for pair in pairs], color="C3"), padding=3)
    names = [f"{shortened(pair.label, _NAME)} as {shortened(pair.taken_for, _NAME)}" for pair in pairs]
    taken.set_yticks(range(len(pairs)), names, parse_math=False)
    taken.set(xlabel="images that look like another label", ylim=(max(1, len(pairs)) - 0.5, -0.5))
    taken.margins(x=0.15)
    return figure


def plot_latency(samples_ms: Mapping[str, Sequence[float]], path: str | Path) -> None:
    """Plot latency histograms, one color per model, with p50 and p99 as lines."""
    figure, (axis,) = new_figure(1, width=8.0)
    shown = np.concatenate([np.asarray(values) for values in samples_ms.values()])
    bins = np.linspace(0, np.percentile(shown, 99.5) * 1.05, 80)
    for number, (model, values) in enumerate(samples_ms.items()):
        p50, p99 = np.percentile(values, [50, 99])
        axis.hist(
            np.clip(values, None, bins[-1]),
            bins,
            alpha=0.6,
            color=f"C{number}",
            label=f"{model}: p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        )
        axis.axvline(p50, color=f"C{number}")
        axis.axvline(p99, color=f"C{number}", linestyle=":")
    axis.set(xlabel="frame to label, ms (solid line: p50, dotted: p99)", ylabel="frames")
    axis.legend()
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    # If Pillow wrote the file, an error would not say why.
    data = png(figure)
    with new_file(path, overwrite=True) as work:
        Path(work).write_bytes(data)
