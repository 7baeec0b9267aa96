"""The charts of a report: training, calibration, precision and recall, and the learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...display.page.charts import Area, Chart, Dot, Line, Rule, shortened, span, xy_axes
from .figures import Figures
from .learning_curve import LearningCurve

CURVES = 6
"""Labels of the precision-recall chart."""
_NAMES = {
    "loss": "train",
    "val_loss": "val",
    "val_accuracy": "accuracy",
    "val_macro_f1": "macro F1",
    "val_balanced_accuracy": "balanced accuracy",
}
_LEAST_SPAN = 0.1
_RATES = ("learning_rate", "lr", "rate")


def history_charts(rows: Sequence[Mapping[str, float]], best: float | None = None) -> list[Chart]:
    """Return loss, validation figures and learning rate by epoch, as far as they were recorded; none for a single epoch.

    best: the epoch whose weights were kept.
    """
    if len(rows) < 2:
        return []
    columns = {name for row in rows for name, value in row.items() if isinstance(value, (int, float))}
    groups: list[tuple[str, list[str], str]] = [
        ("Loss", [name for name in ("loss", "val_loss") if name in columns], ""),
        ("Validation images", [name for name in _NAMES if name in columns and "loss" not in name], "y"),
        ("Learning rate", [name for name in _RATES if name in columns][:1], ""),
    ]
    return [_history(title, rows, names, percent, best) for title, names, percent in groups if names]


def _history(
    title: str, rows: Sequence[Mapping[str, float]], names: Sequence[str], percent: str, best: float | None
) -> Chart:
    lines = [[(row["epoch"], row[name]) for row in rows if _finite(row.get(name))] for name in names]
    values = [y for line in lines for _, y in line]
    low, high = span(values) if percent else span(values, 0.0)
    if percent and high - low < _LEAST_SPAN:  # a step of one image is not a cliff
        low, high = (low + high - _LEAST_SPAN) / 2, (low + high + _LEAST_SPAN) / 2
    x, y = xy_axes(
        (rows[0]["epoch"], rows[-1]["epoch"]),
        (max(0.0, low), min(1.0, high) if percent else high),
        ("epoch", ""),
        percent,
        whole=True,
    )
    drawn = tuple(Line(line, number, dotted=len(line) <= 40) for number, line in enumerate(lines) if line)
    legend = tuple((number, _NAMES.get(name, name)) for number, name in enumerate(names)) if len(names) > 1 else ()
    kept = () if best is None else (Rule(x=best, dashed=True),)
    return Chart(
        title,
        x,
        y,
        legend,
        drawn,
        rules=kept,
        note="" if best is None else f"Dashed: epoch {best:.0f}, which was kept.",
    )


def _finite(value: float | None) -> bool:
    return value is not None and abs(value) < float("inf")


def reliability_chart(found: Figures) -> Chart:
    """Return the reliability diagram: accuracy of the images by their confidence."""
    seen = [one for one in found.bins if one.images and one.accuracy is not None and one.confidence is not None]
    low = min((one.low for one in seen), default=0.0)
    x, y = xy_axes((low, 1.0), (0.0, 1.0), ("confidence", ""), "xy")
    areas = tuple(
        Area(
            ((one.low, 0.0), (one.low, one.accuracy or 0.0), (one.high, one.accuracy or 0.0), (one.high, 0.0)),
            title=f"confidence {one.low:.0%} to {one.high:.0%}: {one.images} images, {one.accuracy:.1%} right",
        )
        for one in seen
    )
    dots = tuple(Dot(one.confidence or 0.0, one.accuracy or 0.0) for one in seen)
    return Chart(
        "Share of right answers by confidence",
        x,
        y,
        areas=areas,
        dots=dots,
        lines=(Line(((low, low), (1.0, 1.0)), 1, dashed=True),),
        names=((0, "images of similar confidence"), (1, "as confident as right")),
    )


def precision_recall_chart(found: Figures) -> Chart | None:
    """Return the precision-recall curves of the labels with the least average precision; None if there are none."""
    shown = found.curves[:CURVES]
    if not shown:
        return None
    x, y = xy_axes((0.0, 1.0), (0.0, 1.0), ("recall", "precision"), "xy")
    names = tuple(
        (number, f"{shortened(curve.label, 24)} ({curve.average_precision:.3f})") for number, curve in enumerate(shown)
    )
    which = f" of the {len(shown)} worst labels" if len(found.curves) > len(shown) else ""
    return Chart(
        f"Precision by recall{which}",
        x,
        y,
        names,
        tuple(Line(curve.points, number) for number, curve in enumerate(shown)),
        note="In brackets: average precision.",
    )


def learning_chart(curve: LearningCurve) -> Chart:
    """Return accuracy by number of training images, with the power law."""
    values = [*(step.lowest for step in curve.steps), *(step.highest for step in curve.steps)]
    low, high = span(values, *(accuracy for _, accuracy in curve.fitted))
    x, y = xy_axes((0.0, 1.05 * curve.doubled), (max(0.0, low), min(1.0, high)), ("training images", ""), "y")
    dots = tuple(
        Dot(
            step.images,
            step.accuracy,
            upright=(step.lowest, step.highest),
            title=f"{step.images} images: {step.accuracy:.1%} ({step.lowest:.1%} to {step.highest:.1%})",
        )
        for step in curve.steps
    )
    full = curve.doubled // 2
    return Chart(
        "Accuracy on the validation images",
        x,
        y,
        ((0, "measured, with the range of the seeds"), (1, "power law")),
        (Line([point for point in curve.fitted if point[0] <= full], 1), Line(_beyond(curve, full), 1, dashed=True)),
        dots,
        rules=(Rule(x=full, dashed=True),),
    )


def _beyond(curve: LearningCurve, full: int) -> list[tuple[int, float]]:
    last = [point for point in curve.fitted if point[0] <= full][-1:]
    return [*last, *(point for point in curve.fitted if point[0] > full)]
