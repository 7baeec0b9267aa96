"""Figures of what a bundle and an export hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..display.report import new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .bundling import BundleReport
    from .formats.export import FormatsReport


def draw_bundle(report: BundleReport) -> Figure:
    """Draw each model's accuracy, size, and the share of images that keep a label."""
    facts = report.facts.values()
    figure, axes = new_figure(3, 3.6, height=_height(len(facts)))
    columns: tuple[tuple[list[float], str, str], ...] = (
        ([one.accuracy for one in facts], "accuracy", "{:.2%}"),
        ([one.size / 1e6 for one in facts], "size, MB", "{:.1f}"),
        ([one.coverage for one in facts], "images that keep a label", "{:.1%}"),
    )
    for axis, (values, what, form) in zip(axes, columns, strict=True):
        _bars(axis, values, what, form)
        if form.endswith("%}"):
            axis.set_xticks([0, 0.5, 1])
    axes[0].set_yticks(range(len(facts)), list(report.facts))
    return figure


def draw_formats(report: FormatsReport) -> Figure:
    """Draw each format's latency beside the reference's, and its size; formats that were not kept are left out."""
    kept = [row for row in report.rows if not row.problem]
    figure, (latency, size) = new_figure(2, 4.5, height=_height(1 + len(kept)))
    times = [report.reference_ms, *(0.0 if row.latency_ms is None else row.latency_ms for row in kept)]
    _bars(latency, times, f"latency, ms ({report.threads} threads)", "{:.2f}", unknown="not run")
    _bars(size, [0.0, *(row.size / 1e6 for row in kept)], "size, MB", "{:.1f}", unknown="")
    latency.set_yticks(range(1 + len(kept)), [report.reference, *(row.format for row in kept)])
    return figure


def _bars(axis: Axes, values: Sequence[float], what: str, form: str, unknown: str | None = None) -> None:
    """Draw a horizontal bar for each value, with its text; unknown: the text of 0, if it stands for no value."""
    texts = [form.format(value) if value or unknown is None else unknown for value in values]
    bars = axis.barh(range(len(values)), values, color=[f"C{row}" for row in range(len(values))])
    axis.bar_label(bars, texts, padding=3)
    axis.margins(x=0.25)
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.set_yticks([])
    axis.set_xlabel(what)


def _height(rows: int) -> float:
    return 1.3 + 0.32 * rows
