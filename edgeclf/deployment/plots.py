"""The figure of an export to several formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..display.report import bars_height, fill_bars, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .formats.export import FormatsReport


def draw_formats(report: FormatsReport) -> Figure:
    """Draw each format's latency beside the reference's, and its size; formats that were not kept are left out."""
    kept = [row for row in report.rows if not row.problem]
    figure, (latency, size) = new_figure(2, 4.5, height=bars_height(1 + len(kept)))
    times = [report.reference_ms, *(0.0 if row.latency_ms is None else row.latency_ms for row in kept)]
    fill_bars(latency, times, f"latency, ms ({report.threads} threads)", "{:.2f}", unknown="not run")
    fill_bars(size, [0.0, *(row.size / 1e6 for row in kept)], "size, MB", "{:.1f}", unknown="")
    latency.set_yticks(range(1 + len(kept)), [report.reference, *(row.format for row in kept)])
    return figure
