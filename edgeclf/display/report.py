"""A Report is what a command returns: text when printed, JSON for machines, tables in a notebook, and a figure.

The tables have no scripts and no colors of their own, so that they fit a light and a dark notebook.  Names of labels, files
and folders are the user's, so all text is escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.text.terminal import printable

from ..errors import DependencyError
from .json_file import json_text

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    class Printer(Protocol):
        """IPython's printer: the method that is used."""

        def text(self, text: str) -> None: ...


_STYLE = """
.edgeclf-report { max-height: 40em; overflow: auto; }
.edgeclf-report table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0.5em 0; }
.edgeclf-report th, .edgeclf-report td { border: 0; border-bottom: 1px solid rgba(128, 128, 128, 0.4); padding: 2px 9px;
  text-align: right; vertical-align: top; }
.edgeclf-report th:first-child, .edgeclf-report td:first-child, .edgeclf-report .facts * { text-align: left; }
.edgeclf-report p { margin: 0.5em 0; }
"""
_DPI = 120
_FEW = 6
_TALLEST = 30.0
"""Inches of a figure; with more bars than fit, they get thinner."""


class Bars(NamedTuple):
    """A chart of horizontal bars."""

    what: str
    values: Mapping[str, float]
    """By name."""
    form: str = "{:.4g}"
    """The format of the values' texts; one that ends with % has an axis from 0 to 1."""


class Report:
    """The result of a command; a dataclass whose fields JSON can hold, unless it has a ``to_dict`` of its own."""

    def __init_subclass__(cls) -> None:
        # IPython would prefer the __repr__ that dataclass adds to the same class.
        cls._repr_pretty_ = Report._repr_pretty_  # type: ignore[method-assign]

    def to_dict(self) -> JsonObject:
        """The report as a JSON-compatible dict."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    def to_json(self, indent: int | None = None) -> str:
        """The report as one JSON object."""
        return json_text(self.to_dict(), indent)

    def html_parts(self) -> Iterator[str]:
        """Yield what a notebook shows as HTML: by default a table of the plain facts, and one for each field with rows."""
        return tables_of(self.to_dict())

    def bars(self) -> Iterable[Bars]:
        """Return the charts that ``plot`` draws side by side, unless the report has a figure of its own."""
        raise NotImplementedError

    def plot(self) -> Figure:
        """Return the main figures as a matplotlib figure; DependencyError if matplotlib is missing."""
        return draw_bars(list(self.bars()))

    def _repr_html_(self) -> str:
        return page(self.html_parts())

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        # IPython shows it where it shows no HTML, and saves it beside the HTML.
        printer.text(printable(self, "\n"))


def page(parts: Iterable[str]) -> str:
    """Return paragraphs and tables as one piece of HTML, with its style."""
    return f'<div class="edgeclf-report">\n<style>{_STYLE}</style>\n' + "\n".join(parts) + "\n</div>"


def tables_of(fields: Mapping[str, object]) -> Iterator[str]:
    """Yield a table of the plain values among a report's fields, then one for each field that holds rows."""
    facts, rest = [], []
    for name, value in fields.items():
        text = _plain(name, value)
        if text is None:
            rest += list(_nested(name, value))
        elif text:
            facts.append((_words(name), text))
    if facts:
        yield table((), facts, name="facts")
    yield from rest


def _nested(name: str, value: Any) -> Iterator[str]:
    """Yield a field that holds more than a cell can: sentences, a mapping, or rows."""
    if isinstance(value, Mapping):
        rows = [{"": key, **row} if isinstance(row, Mapping) else {name: key, "": row} for key, row in value.items()]
    elif all(isinstance(row, Mapping) for row in value):
        rows = list(value)
    else:
        yield from map(paragraph, value)
        return
    if rows:
        columns = list(rows[0])
        cells = [[_cell(column, row.get(column)) for column in columns] for row in rows]
        yield table([_words(column) for column in columns], cells)


def _plain(name: str, value: object) -> str | None:
    """Return the text of a value that fits a cell, "" for nothing; None for one that needs a table."""
    if value is None or value in ("", (), [], {}):
        return ""
    if isinstance(value, Mapping):
        few = len(value) <= _FEW and not any(isinstance(one, (Mapping, list, tuple)) for one in value.values())
        return _cell(name, value) if few else None
    if isinstance(value, (list, tuple)):
        short = not any(isinstance(one, (Mapping, list, tuple)) or len(str(one)) > 60 for one in value)
        return listed([_cell(name, one) for one in value]) if short else None
    return _cell(name, value)


def _cell(name: str, value: object) -> str:
    """Return a value as people read it; the field's name tells bytes from counts."""
    if value is None or value in ("", (), [], {}):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value / 1e6:.1f} MB" if re.match(r"size(_|$)", name) else str(value)
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"
    if isinstance(value, (list, tuple)):
        return listed([_cell(name, one) for one in value])
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(name, one)}" for key, one in value.items())
    return str(value)[:12] if re.fullmatch("[0-9a-f]{64}", str(value)) else str(value)


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return the first names, with commas between them, and the number of the others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def paragraph(text: str, name: str = "") -> str:
    """Return a paragraph of a class ``name``."""
    return f'<p class="{name}">{escaped(text)}</p>'


def table(head: Iterable[str], *groups: Iterable[Iterable[object]], name: str = "") -> str:
    """Return a table of a class ``name``, with a line between groups of rows; an empty head is left out."""
    titles = list(head)
    lines = [f'<table class="{name}">', *([f"<thead>{_row(titles, 'th')}</thead>"] if titles else [])]
    for rows in groups:
        lines += ["<tbody>", *(_row(row, "td") for row in rows), "</tbody>"]
    return "\n".join([*lines, "</table>"])


def _row(cells: Iterable[object], kind: str) -> str:
    return "<tr>" + "".join(f"<{kind}>{escaped(cell)}</{kind}>" for cell in cells) + "</tr>"


def shaded_table(head: Iterable[str], rows: Iterable[tuple[str, list[tuple[str, float]]]]) -> str:
    """Return a table whose cells are shaded by their share, 0 to 1.

    rows: a name, and the text and share of each cell.
    """
    lines = ["<table>", f"<thead>{_row(head, 'th')}</thead>", "<tbody>"]
    for name, cells in rows:
        # So transparent that black and white letters can both be read on it.
        shaded = (
            f'<td style="background: rgba(68, 119, 170, {0.6 * share:.2f})">{escaped(text)}</td>'
            for text, share in cells
        )
        lines.append(f"<tr><td>{escaped(name)}</td>{''.join(shaded)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])


def escaped(value: object) -> str:
    """Return a text for HTML."""
    return html.escape(drawable(str(value)))


def drawable(text: str) -> str:
    """Return a text with a sign in place of line ends, control codes and other unprintable characters, of which XML has no form."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def new_figure(columns: int, width: float = 5.0, height: float = 4.5) -> tuple[Figure, np.ndarray]:
    """Return a figure with one row of axes, and the axes; a notebook shows the figure if a cell ends with it.

    Raises DependencyError if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise DependencyError(
            "plots need matplotlib, which is not installed; install it: python3 -m pip install matplotlib"
        ) from None

    class Plot(Figure):
        """A figure that is a picture in a notebook, whether or not pyplot was imported there."""

        def _repr_png_(self) -> bytes:
            return png(self)

    figure = Plot(figsize=(width * columns, height), dpi=_DPI, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def draw_bars(charts: Sequence[Bars]) -> Figure:
    """Draw charts of bars side by side; only the first has names if all have the same."""
    same = all(list(chart.values) == list(charts[0].values) for chart in charts)
    rows = max((len(chart.values) for chart in charts), default=0)
    figure, axes = new_figure(len(charts), 4.5 if not same else 3.6, bars_height(rows))
    for place, (axis, chart) in enumerate(zip(axes, charts, strict=True)):
        fill_bars(axis, list(chart.values.values()), chart.what, chart.form)
        if not same or not place:
            # A label may contain $, but is not a formula.
            axis.set_yticks(range(len(chart.values)), [drawable(name) for name in chart.values], parse_math=False)
        if chart.form.endswith("%}"):
            axis.set_xticks([0, 0.5, 1])
    return figure


def fill_bars(axis: Axes, values: Sequence[float], what: str, form: str, unknown: str | None = None) -> None:
    """Draw a horizontal bar for each value, with its text; unknown: the text of 0, if it stands for no value."""
    texts = [form.format(value) if value or unknown is None else unknown for value in values]
    bars = axis.barh(range(len(values)), values, color=[f"C{row % 10}" for row in range(len(values))])
    axis.bar_label(bars, texts, padding=3)
    axis.margins(x=0.25)
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.set_yticks([])
    axis.set_xlabel(what)


def bars_height(rows: int) -> float:
    """Return the height of a figure with so many bars below each other."""
    return min(_TALLEST, 1.3 + 0.32 * rows)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    from io import BytesIO

    data = BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def ms_text(time_ms: float | None, digits: int) -> str:
    """Return a time for a table, "-" for one that is not known or says nothing."""
    return "-" if time_ms is None else f"{time_ms:.{digits}f}"
