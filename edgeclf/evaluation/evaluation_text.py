"""The text of an Evaluation, for a terminal of 80 columns: readable for two labels and for a thousand."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.text.terminal import printable

from ..data.findings import counted, left_out_lines, listed
from ..display.columns import fitted, left, right, width
from .rejection.report import foreign_notes, foreign_rows, rejection_rows

if TYPE_CHECKING:
    from .evaluate import Evaluation

COLUMNS = 80
"""A terminal's width; a wider confusion matrix is shown in another form, and --json always has all of it."""
MOST_LABELS = 30
"""Labels of a table and a confusion matrix that are shown whole."""
_SHOWN = 10
"""Labels, confusions and groups to list if there are more."""
_NONE = "-"


def evaluation_text(found: Evaluation) -> str:
    """Return the table by label, the confusions, the groups if there are any, the figures and the summary."""
    labels = [fitted(printable(label), COLUMNS - 51) for label in found.labels]
    parts = [*_label_lines(found, labels), "", *_confusion_lines(found, labels), ""]
    if found.groups:
        parts += [*_group_lines(found), ""]
    blocks = [rows for rows in (figures(found), *rejection_blocks(found)) if rows]
    first = max(width(printable(name)) for rows in blocks for name, _, _ in rows)
    for rows in blocks:
        parts += [f"{left(printable(name), first)}  {value:>7}  {remark}".rstrip() for name, value, remark in rows] + [
            ""
        ]
    parts += [printable(summary(found)), *left_out_lines(found.unreadable, found.trained_on, found.near_trained)]
    if found.unknown:
        parts += wrapped(foreign_notes(found.unknown))
    return "\n".join(parts)


def rejection_blocks(found: Evaluation) -> list[list[tuple[str, str, str]]]:
    """Return the rows of what the model rejects, and those of foreign images; a block can be empty."""
    return [rejection_rows(found), foreign_rows(found.unknown) if found.unknown else []]


def summary(found: Evaluation) -> str:
    """Return what was measured, and the result, as one line."""
    what = f"{found.model} on {found.data} ({found.split})"
    return f"{what}: accuracy {found.accuracy:.4f}, macro F1 {found.macro_f1:.4f}, {found.images} images"


def figures(found: Evaluation) -> list[tuple[str, str, str]]:
    """Return the name and value of each figure, "-" if it is not defined, and a remark or ""."""
    metrics = found.metrics
    low, high = metrics.accuracy_interval
    at = f"{_number(metrics.raw_calibration_error)} without the temperature of {metrics.temperature:g}"
    rows = [
        ("accuracy", metrics.accuracy, f"95 % interval {low:.4f} to {high:.4f}"),
        ("  always the most frequent label", metrics.baseline_accuracy, ""),
        ("balanced accuracy", metrics.balanced_accuracy, "mean recall of the labels"),
        ("macro precision", metrics.macro_precision, ""),
        ("macro F1", metrics.macro_f1, ""),
        ("ROC AUC", metrics.roc_auc, "each label against the others"),
        ("average precision", metrics.average_precision, "each label against the others"),
        ("calibration error", metrics.calibration_error, at if metrics.temperature != 1 else ""),
        ("negative log-likelihood", metrics.negative_log_likelihood, ""),
        ("Brier score", metrics.brier_score, ""),
    ]
    if metrics.top_k:
        rows.insert(5, (f"top-{metrics.top_k} accuracy", metrics.top_k_accuracy, ""))
    return [(name, _number(value), remark) for name, value, remark in rows]


def most_confused(found: Evaluation, labels: Sequence[str] = ()) -> list[tuple[str, str, int]]:
    """Return true label, predicted label and number of images of the most frequent confusions; labels: their names."""
    names, wrong = labels or found.labels, np.array(found.confusion)
    np.fill_diagonal(wrong, 0)
    most = [divmod(int(index), len(names)) for index in np.argsort(-wrong, axis=None, kind="stable")[:_SHOWN]]
    return [(names[i], names[j], int(wrong[i, j])) for i, j in most if wrong[i, j]]


def label_rows(found: Evaluation) -> list[tuple[str, str, str, str, str, str]]:
    """Return label, precision, recall, F1, images and the recall's interval; "-" for what a label without images lacks."""
    rows = []
    for (label, row), interval in zip(found.per_label.items(), found.metrics.recall_intervals, strict=True):
        recall, f1 = (f"{row[name]:.4f}" if interval else _NONE for name in ("recall", "f1"))
        reach = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else _NONE
        rows.append((label, f"{row['precision']:.4f}", recall, f1, f"{row['images']:.0f}", reach))
    return rows


def _label_lines(found: Evaluation, labels: list[str]) -> Iterator[str]:
    rows = [(label, *row[1:]) for label, row in zip(labels, label_rows(found), strict=True)]
    if len(rows) > MOST_LABELS:
        seen = [number for number, interval in enumerate(found.metrics.recall_intervals) if interval]
        f1 = [row["f1"] for row in found.per_label.values()]
        worst = sorted(seen, key=f1.__getitem__)[:_SHOWN]
        yield f"the {len(worst)} of {len(rows)} labels with the lowest F1 (--json has all):"
        rows = [rows[number] for number in worst]
    first = max(width(row[0]) for row in (*rows, ("predicted",)))
    yield f"{'label':<{first}}  precision  recall      f1  images    recall, 95 %"
    for label, precision, recall, f1_text, images, reach in rows:
        yield f"{left(label, first)}  {precision:>9}  {recall:>6}  {f1_text:>6}  {images:>6}  {reach:>14}"
    missing = [
        label
        for label, interval in zip(labels, found.metrics.recall_intervals, strict=True)
        if not interval and len(labels) > MOST_LABELS
    ]
    if missing:
        yield fitted(f"{counted(len(missing), 'label')} without images: {listed(missing)}", COLUMNS)


def _confusion_lines(found: Evaluation, labels: list[str]) -> list[str]:
    """Return the confusion matrix, or if it is too wide for a terminal the most frequent confusions."""
    numbers = [str(number) for number in range(1, len(labels) + 1)]
    for columns, rows in (
        (labels, labels),
        (numbers, [f"{number:>2} {label}" for number, label in zip(numbers, labels, strict=True)]),
    ):
        first = max(width(row) for row in (*rows, "predicted"))
        cell = max(width(text) for text in (*columns, str(max(map(max, found.confusion)))))
        if first + len(columns) * (cell + 2) <= COLUMNS:
            counts = [[str(count) for count in row] for row in found.confusion]
            return [
                left(name, first) + "".join(f"  {right(text, cell)}" for text in row)
                for name, row in zip(("predicted", *rows), (columns, *counts), strict=True)
            ]
    short = [fitted(label, (COLUMNS - 10) // 2) for label in labels]
    first = max(map(width, (*short, "predicted")))
    return [
        f"{left(label, first)}  {left(predicted, first)}  {count:>6}"
        for label, predicted, count in (("label", "predicted", "images"), *most_confused(found, short))
    ]


def wrapped(sentences: Iterable[str]) -> list[str]:
    """Return sentences as lines that fit a terminal; a word that does not, such as a path, stays whole."""
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(printable(sentence), COLUMNS, break_long_words=False, break_on_hyphens=False)
    ]


def _group_lines(found: Evaluation) -> Iterator[str]:
    """Yield a table of the least accurate groups."""
    groups = [(fitted(printable(name), COLUMNS - 36), row) for name, row in found.groups.items()]
    first = max(width(name) for name, _ in (*groups[:_SHOWN], ("group", {})))
    yield f"{'group':<{first}}  accuracy  images  accuracy, 95 %"
    for name, row in groups[:_SHOWN]:
        reach = "{:.3f} to {:.3f}".format(*row["interval"])
        yield f"{left(name, first)}  {row['accuracy']:8.4f}  {row['images']:6}  {reach:>14}"
    if len(groups) > _SHOWN:
        yield f"the {_SHOWN} least accurate of {len(groups)} groups (--json has all)"


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4f}"
