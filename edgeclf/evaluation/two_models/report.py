"""A CompareReport: two models on the same images, as text, table and picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.text.terminal import printable

from ...data.findings import counted, left_out_lines
from ...display.report import Report, new_figure, paragraph, table
from ..evaluation_text import wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 10
_LEVEL = 0.05


@dataclass(frozen=True)
class Side:
    """One of the two models."""

    path: str
    model: str
    backend: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    calibration_error: float | None
    size: int | None
    """Bytes of its ONNX file; None for torch."""
    latency_ms: float | None
    """Median from a decoded image to its label; None if it was not measured, or is of another device."""


@dataclass(frozen=True)
class Difference:
    """An image to which the models give different labels."""

    image: str
    label: str
    a: str
    b: str


@dataclass(frozen=True)
class CompareReport(Report):
    """Two models on the same images."""

    a: Side
    b: Side
    data: str
    split: str
    images: int
    difference: float
    """B's accuracy minus A's."""
    difference_interval: tuple[float, float]
    """95 % confidence interval; the images are paired (Agresti and Min 2005)."""
    won: int
    """Images that A gets wrong and B right."""
    lost: int
    """Images that A gets right and B wrong."""
    p_value: float
    """McNemar's exact test."""
    mid_p_value: float
    """McNemar's mid-p test, which decides."""
    enough_images: int
    """About how many images would show this difference, or one of a point if it is smaller, 4 times in 5."""
    agreement: float
    """Share of images to which both give the same label."""
    differing: tuple[Difference, ...]
    left_out: int = 0
    """Images that may be used for one of the models only."""
    trained_on: int = 0
    near_trained: int = 0
    unreadable: int = 0

    @property
    def better(self) -> str | None:
        """ "a" or "b" if its accuracy is shown to be higher, else None: mid-p below 5 %, and an interval without 0."""
        low, high = self.difference_interval
        if self.mid_p_value >= _LEVEL or low <= 0 <= high:
            return None
        return "b" if self.difference > 0 else "a"

    @property
    def verdict(self) -> str:
        """One sentence: which model is better and by how much, or how many images it would take to know."""
        low, high = (100 * end for end in self.difference_interval)
        changed = (
            f"{counted(self.won, 'image')} changed from wrong to right, {self.lost} from right to wrong"
            if self.won or self.lost
            else "both are right on the same images"
        )
        if self.better == "b":
            return f"B is better by {100 * self.difference:.1f} points (95 %: {low:.1f} to {high:.1f}); {changed}"
        if self.better == "a":
            return f"A is better by {-100 * self.difference:.1f} points (95 %: {-high:.1f} to {-low:.1f}); {changed}"
        size = max(1.0, abs(100 * self.difference))
        return (
            f"no difference can be shown with {counted(self.images, 'image')} (B minus A: {100 * self.difference:+.1f} points, 95 %: "
            f"{low:+.1f} to {high:+.1f}); {changed}; about {self.enough_images} images would be needed to show {size:.1f} points"
        )

    def to_dict(self) -> JsonObject:
        """The report as JSON can hold it, with the verdict and the ratios."""
        ratios = {f"{name}_ratio": self.ratio(name) for name in ("size", "latency_ms")}
        return {**super().to_dict(), **ratios, "better": self.better, "verdict": self.verdict}

    def ratio(self, name: str) -> float | None:
        """Return B's figure divided by A's, None unless both are known; name: size or latency_ms."""
        a, b = getattr(self.a, name), getattr(self.b, name)
        return None if not a or b is None else float(b / a)

    def plot(self) -> Figure:
        """Return both accuracies with their intervals, and the difference with its own, as a matplotlib figure.

        Raises DependencyError if matplotlib is missing.
        """
        figure, (left, right) = new_figure(2, width=4.0, height=2.6)
        for at, (name, side) in enumerate((("A", self.a), ("B", self.b))):
            low, high = side.accuracy_interval
            left.plot([low, high], [at, at], color=f"C{at}", linewidth=3)
            left.plot([side.accuracy], [at], "o", color=f"C{at}", label=f"{name}: {side.accuracy:.2%}")
        left.set_yticks([0, 1], ["A", "B"])
        left.set(title="accuracy, 95 % intervals", ylim=(1.5, -0.5))
        left.locator_params(axis="x", nbins=5)
        left.legend()
        right.plot([100 * end for end in self.difference_interval], [0, 0], color="black", linewidth=3)
        right.plot([100 * self.difference], [0], "o", color="black")
        right.axvline(0, color="gray", linestyle=":")
        right.set_yticks([])
        right.set(title=f"B minus A, points, {self.images} images")
        return figure

    def html_parts(self) -> Iterator[str]:
        """Yield the verdict, both models' figures, and the images on which they differ."""
        yield from map(paragraph, (self.verdict, *self._remarks()))
        yield table(("", "A", "B", "B / A"), self._rows())
        if self.differing:
            rows = ((one.image, one.label, one.a, one.b) for one in self.differing)
            yield table(("image", "label", "A", "B"), rows)

    def _remarks(self) -> list[str]:
        apart = f"left out: {counted(self.left_out, 'image')} that may be used for one of the models only"
        return [
            f"{self.data} ({self.split}), {counted(self.images, 'image')}; same label for {self.agreement:.2%}; "
            f"McNemar's p {self.mid_p_value:.3g} (mid-p), {self.p_value:.3g} (exact)",
            *([apart] if self.left_out else []),
            *left_out_lines(self.unreadable, self.trained_on, self.near_trained),
        ]

    def _rows(self) -> list[tuple[str, ...]]:
        """Return the name of each figure, A's and B's, and their ratio or ""."""
        sides = (self.a, self.b)
        reach = ["{:.4f} to {:.4f}".format(*side.accuracy_interval) for side in sides]
        errors = [_text(side.calibration_error, "{:.4f}") for side in sides]
        sizes = [_text(None if side.size is None else side.size / 1e6, "{:.1f} MB") for side in sides]
        times = [_text(side.latency_ms, "{:.2f} ms") for side in sides]
        return [
            ("model", *(f"{side.model} on {side.backend}" for side in sides), ""),
            ("accuracy", *(f"{side.accuracy:.4f}" for side in sides), ""),
            ("95 % interval", *reach, ""),
            ("macro F1", *(f"{side.macro_f1:.4f}" for side in sides), ""),
            ("calibration error", *errors, ""),
            ("size", *sizes, _text(self.ratio("size"), "{:.2f}")),
            ("median latency", *times, _text(self.ratio("latency_ms"), "{:.2f}")),
        ]

    def __str__(self) -> str:
        lines = [f"A: {self.a.path}", f"B: {self.b.path}", "", f"{'':<17}  {'A':>22}  {'B':>22}  {'B / A':>6}"]
        lines += [f"{name:<17}  {a:>22}  {b:>22}  {ratio:>6}".rstrip() for name, a, b, ratio in self._rows()]
        lines += ["", *(f"{one.image}: {one.label}; A: {one.a}, B: {one.b}" for one in self.differing[:_SHOWN])]
        if len(self.differing) > _SHOWN:
            lines.append(f"and {len(self.differing) - _SHOWN} more images on which they differ (--json has all)")
        return "\n".join([*map(printable, lines), *wrapped([*self._remarks(), self.verdict])])


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
