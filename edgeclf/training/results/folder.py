"""Writes a results folder: report.html for people, report.json for machines, predictions.csv with a row for each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.classify.decision import softmax

from ...data.findings import counted
from ...display.json_file import write_json
from ...display.page.charts import heat_map, shortened
from ...display.page.pictures import matrix
from ...display.page.render import render
from ...display.prediction_file import write_predictions
from .drawings import history_charts, learning_chart, precision_recall_chart, reliability_chart
from .figures import FEW, Figures, LabelFigures, figures_of, verdict
from .gallery import confused_pairs, relative, suspect_images, worst_errors
from .subject import Subject

if TYPE_CHECKING:
    from .metrics import GroupFigures

PAGE_FILE, REPORT_FILE, PREDICTION_FILE = "report.html", "report.json", "predictions.csv"
_FORMAT, _FORMAT_VERSION = "edgeclf-report", 1
_MOST_MATRIX = 30
"""Largest number of labels of a confusion matrix whose cells are distinguishable on a page."""
_MOST_ROWS = 40
_MOST_CONFUSIONS = 12


def write_results(folder: Path, subject: Subject) -> None:
    """Write the three files into a folder that exists."""
    found = figures_of(subject.labels, subject.truth, subject.logits, subject.temperature)
    (folder / PAGE_FILE).write_text(_page(subject, found), encoding="utf-8")
    write_json(folder / REPORT_FILE, _facts(subject, found))
    write_predictions(
        folder / PREDICTION_FILE,
        subject.labels,
        subject.paths,
        subject.truth,
        softmax(subject.logits / subject.temperature),
        subject.reasons,
        subject.distances,
        overwrite=True,
    )


def _page(subject: Subject, found: Figures) -> str:
    errors, no_heat = worst_errors(subject)
    many = len(subject.labels) > _MOST_MATRIX
    shares = found.confusion / np.maximum(found.confusion.sum(1, keepdims=True), 1)
    rows = sorted(found.labels, key=_worst_first) if many else found.labels
    return render(
        "results.html",
        subject=subject,
        warnings=[_warning(text, subject) for text in subject.warnings],
        found=found,
        verdict=verdict(found),
        cards=list(_cards(found)),
        history=history_charts(subject.history, subject.best_epoch),
        heat=None if many else heat_map(subject.labels, found.confusion),
        matrix=matrix(shares) if many else "",
        confusions=[
            (subject.labels[true], subject.labels[given], images, f"{images / found.labels[true].images:.1%}")
            for true, given, images in found.confusions()[:_MOST_CONFUSIONS]
        ],
        rows=[_row(row) for row in rows[:_MOST_ROWS]],
        more_rows=[_row(row) for row in rows[_MOST_ROWS:]],
        groups=[_group(name, row) for name, row in list(subject.groups.items())[:_MOST_ROWS]],
        few=FEW,
        reliability=reliability_chart(found) if found.bins else None,
        precision_recall=precision_recall_chart(found),
        errors=errors,
        no_heat=no_heat,
        pairs=confused_pairs(subject, found),
        suspects=suspect_images(subject),
        learning=learning_chart(subject.curve) if subject.curve else None,
        facts=[
            (title, [(name, _value(value)) for name, value in table.items()]) for title, table in subject.facts.items()
        ],
    )


def _warning(text: str, subject: Subject) -> str:
    """Return a finding as a sentence, with the names of images relative to their folder."""
    return text.partition("\n")[0].removeprefix("warning: ").replace(f"{subject.root}/", "")


def _cards(found: Figures) -> Iterator[tuple[str, str, str]]:
    low, high = found.interval
    most = max(found.labels, key=lambda row: row.images)
    yield "accuracy", f"{found.accuracy:.1%}", f"95% interval {low:.1%} to {high:.1%}"
    yield "baseline", f"{most.images / found.images:.1%}", f"always “{shortened(most.label, 20)}”"
    yield "balanced accuracy", f"{found.balanced_accuracy:.1%}", "mean recall of the labels"
    yield "macro F1", f"{found.macro_f1:.3f}", "mean over the labels"
    wrong, seen = found.images - int(found.confusion.trace()), sum(row.images > 0 for row in found.labels)
    lost = "" if seen == len(found.labels) else f", {seen:,} with images"
    yield "images", f"{found.images:,}", f"{wrong:,} wrong; {counted(len(found.labels), 'label')}{lost}"
    if found.calibration_error is not None:
        yield "calibration error", f"{found.calibration_error:.1%}", "gap of confidence and accuracy"


def _worst_first(row: LabelFigures) -> tuple[bool, float]:
    return row.recall is None, row.recall or 0.0


def _row(row: LabelFigures) -> tuple[str, ...]:
    share = ("-" if value is None else f"{value:.1%}" for value in (row.precision, row.recall))
    interval = "-" if row.interval is None else f"{row.interval[0]:.1%} to {row.interval[1]:.1%}"
    few = " (few)" if row.images < FEW else ""
    return (row.label, *share, interval, "-" if row.f1 is None else f"{row.f1:.3f}", f"{row.images}{few}")


def _group(name: str, row: GroupFigures) -> tuple[str, ...]:
    low, high = row["interval"]
    return name, f"{row['accuracy']:.1%}", f"{low:.1%} to {high:.1%}", str(row["images"])


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    return "-" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _facts(subject: Subject, found: Figures) -> dict[str, object]:
    """Return the content of report.json."""
    return {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "title": subject.title,
        "model": subject.model,
        "data": subject.data,
        "split": subject.split,
        "verdict": verdict(found),
        "images": found.images,
        "accuracy": found.accuracy,
        "accuracy_interval": found.interval,
        "balanced_accuracy": found.balanced_accuracy,
        "macro_f1": found.macro_f1,
        "calibration_error": found.calibration_error,
        "temperature": subject.temperature,
        "warnings": list(subject.warnings),
        "notes": list(subject.notes),
        "per_label": [asdict(row) for row in found.labels],
        # All of them would be a million for a thousand labels, nearly all 0.
        "confusions": [
            {"label": subject.labels[true], "predicted": subject.labels[given], "images": images}
            for true, given, images in found.confusions()
        ],
        "average_precision": {curve.label: curve.average_precision for curve in found.curves},
        "reliability": [asdict(one) for one in found.bins],
        "groups": subject.groups,
        "history": [dict(row) for row in subject.history],
        "learning_curve": subject.curve and asdict(subject.curve),
        **{chapter.name: chapter.figures for chapter in subject.chapters},
        "suspects": [{**asdict(one), "path": relative(one.path, subject.root)} for one in subject.suspects],
        **subject.facts,
    }
