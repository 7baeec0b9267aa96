"""Plots of confusion matrices and latencies, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.outputs import new_file

from ..display.report import new_figure, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .evaluate import Evaluation

_ROOMY, _COUNTED = 8, 20
"""Labels of a matrix that fits a figure of the usual size, and of one whose cells show count and share."""
_WIDEST = 14.0


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
