"""Charts as plain numbers: what the templates draw as SVG, in the colors of the page.

Positions are in units of the drawing.  A chart is as wide as a phone; on wide screens several stand beside each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

WIDTH, HEIGHT = 400, 250
_RIGHT, _TOP, _BOTTOM = 22, 10, 38
_LETTER = 6.2
"""Width of a letter of an axis, at the size that the style gives it."""
_MOST_LETTERS = 22
_ROW = 22


@dataclass(frozen=True)
class Scale:
    """An axis: a range of values, drawn between two positions."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]
    """Value and text of each tick."""
    title: str = ""

    def at(self, value: float) -> float:
        """Return the position of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + (self.end - self.start) * float(share), 1)


@dataclass(frozen=True)
class Line:
    """A line through points (x, y); series: its color, one of six, and again from the first."""

    points: Sequence[tuple[float, float]]
    series: int = 0
    dotted: bool = False
    """True if each point is marked."""
    dashed: bool = False


@dataclass(frozen=True)
class Dot:
    """A point, with a horizontal or vertical interval if it has one."""

    x: float
    y: float
    series: int = 0
    across: tuple[float, float] | None = None
    upright: tuple[float, float] | None = None
    title: str = ""


@dataclass(frozen=True)
class Area:
    """A filled polygon."""

    points: Sequence[tuple[float, float]]
    series: int | None = 0
    title: str = ""


@dataclass(frozen=True)
class Rule:
    """A straight line across the whole chart: at x, or at y."""

    x: float | None = None
    y: float | None = None
    series: int | None = None
    dashed: bool = False
    width: float = 1.0


@dataclass(frozen=True)
class Chart:
    """A chart: axes, marks, and the names of its colors."""

    title: str
    x: Scale
    y: Scale
    names: tuple[tuple[int | None, str], ...] = ()
    """Legend: series, None for the color of text, and name."""
    lines: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()
    areas: tuple[Area, ...] = ()
    rules: tuple[Rule, ...] = ()
    height: float = HEIGHT
    width: float = field(default=WIDTH, init=False)
    note: str = ""

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """Return points as SVG writes them."""
        return " ".join(f"{self.x.at(x):g},{self.y.at(y):g}" for x, y in points)


def xy_axes(
    x: tuple[float, float],
    y: tuple[float, float],
    titles: tuple[str, str] = ("", ""),
    percent: str = "",
    whole: bool = False,
) -> tuple[Scale, Scale]:
    """Return the axes of a chart.

    x, y: smallest and largest value.  percent: "x", "y" or "xy" for axes of shares.  whole: only whole numbers on the x axis.
    """
    y_ticks = _ticks(*y, percent="y" in percent)
    left = 12 + _LETTER * max(len(text) for _, text in y_ticks)
    return (
        Scale(*x, left, WIDTH - _RIGHT, _ticks(*x, percent="x" in percent, whole=whole), titles[0]),
        Scale(*y, HEIGHT - _BOTTOM, _TOP, y_ticks, titles[1]),
    )


def row_axes(
    x: tuple[float, float], names: Sequence[str], title: str = "", percent: bool = False
) -> tuple[Scale, Scale]:
    """Return the axes of a chart with a row for each name; the first is at the top, at 0."""
    short = [shortened(name, _MOST_LETTERS) for name in names]
    left = 12 + _LETTER * max(map(len, short), default=0)
    ticks = tuple((float(number), name) for number, name in enumerate(short))
    bottom = _TOP + _ROW * max(1, len(names))
    return (
        Scale(*x, left, WIDTH - _RIGHT, _ticks(*x, percent=percent, count=4), title),
        Scale(-0.5, max(1, len(names)) - 0.5, _TOP, bottom, ticks),
    )


def row_height(names: Sequence[str]) -> float:
    """Return the height of a chart of row_axes()."""
    return float(_TOP + _ROW * max(1, len(names)) + _BOTTOM)


def span(values: Iterable[float], *also: float, margin: float = 0.05) -> tuple[float, float]:
    """Return the range of finite values and of ``also``, with a margin; never empty."""
    kept = [*(value for value in values if np.isfinite(value)), *also] or [0.0]
    low, high = float(min(kept)), float(max(kept))
    # Values that are equal but for rounding are one value.
    room = (high - low) * margin if high - low > 1e-6 * max(abs(low), abs(high)) else max(abs(high), 1.0) * margin
    return low - room, high + room


def shortened(name: str, most: int) -> str:
    """Return a name that fits, its middle left out."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most - most // 2) :]}"


def _ticks(
    low: float, high: float, percent: bool = False, whole: bool = False, count: int = 5
) -> tuple[tuple[float, str], ...]:
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
    step = float(found[1] - found[0]) if len(found) > 1 else 1.0
    slack = 1e-6 * step
    inside = [float(value) for value in found if low - slack <= value <= high + slack]
    if percent:
        # As many as the step has: 2.5 % is not written as 3 %.
        digits = next(count for count in range(16) if math.isclose(round(100 * step, count), 100 * step))
        return tuple((value, f"{value:.{digits}%}") for value in inside)
    return tuple((value, f"{value + 0.0:.6g}") for value in inside)


@dataclass(frozen=True)
class HeatMap:
    """A square of shares, row by row: the darker a cell, the larger its share.

    cells: row, column, share, the text in it and the text that appears under the pointer.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[int, int, float, str, str], ...]
    side: float
    left: float
    """Room for the names of the rows."""
    top: float

    @property
    def inner(self) -> float:
        """Width and height of the square."""
        return self.side * len(self.rows)


_COUNTED = 14
"""Labels of a heat map whose cells have room for a number."""
_NAMED = (12, 12)
"""Most labels, and most letters of one, of a heat map whose columns have names instead of numbers."""


def heat_map(labels: Sequence[str], counts: np.ndarray) -> HeatMap:
    """Return the heat map of a confusion matrix, int [labels, labels]; rows true, columns predicted, shares by row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    named = len(labels) <= _NAMED[0] and max(map(len, labels)) <= _NAMED[1]
    short = [shortened(label, _MOST_LETTERS) for label in labels]
    rows = short if named else [f"{name} ({number})" for number, name in enumerate(short, 1)]
    columns = short if named else [str(number) for number in range(1, len(labels) + 1)]
    roomy = len(labels) <= _COUNTED
    cells = tuple(
        (
            int(row),
            int(column),
            round(float(shares[row, column]), 3),
            str(counts[row, column]) if roomy else "",
            f"{labels[row]} → {labels[column]}: {counts[row, column]} ({shares[row, column]:.1%})",
        )
        for row, column in zip(*np.nonzero(counts), strict=True)
    )
    left, top = (30 + 6.8 * max(map(len, names)) for names in (rows, columns))
    return HeatMap(tuple(rows), tuple(columns), cells, max(15.0, min(64.0, 300 / len(labels))), left, top)
