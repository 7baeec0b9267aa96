"""Evaluates a model on labeled images: accuracy, F1, confusions and what it rejects, measured as the device would run it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.files.outputs import claim_output, named_by, new_folder
from edgeclf_runtime.files.schema import JsonObject

from ..data.datasets import Dataset
from ..data.findings import left_out_lines
from ..display.prediction_file import write_predictions
from ..display.report import Report, paragraph, shaded_table, table
from ..options import EvaluateOptions, merged
from ..training.results.folder import REPORT_FILE, write_results
from ..training.results.metrics import Metrics, group_accuracies, measure_metrics
from .bulk.ray_engine import check_engine
from .evaluation_set import EvaluationSet
from .evaluation_text import (
    MOST_LABELS,
    evaluation_text,
    figures,
    label_rows,
    most_confused,
    rejection_blocks,
    summary,
)
from .export import open_exported
from .image_selection import select_images
from .rejection.answers import foreign_answers, known_answers
from .rejection.foreign_images import MeasuredForeign, find_foreign, measure_foreign
from .rejection.kept_images import KeptImages, MeasuredSets, measure_kept, measure_sets
from .rejection.report import foreign_notes
from .result_subject import subject_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..training.results.metrics import GroupFigures


@dataclass(frozen=True)
class Evaluation(Report):
    """A model's results on one split."""

    model: str
    data: str
    split: str
    labels: tuple[str, ...]
    images: int
    accuracy: float
    macro_f1: float
    """Mean over the labels that have images in the split."""
    per_label: dict[str, dict[str, float]]
    """By label: precision, recall, f1, images."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows: the true label; columns: the predicted one."""
    logits: np.ndarray
    """float32 [images, labels], in the order of the split; left out of the JSON."""
    truth: np.ndarray
    """int [images], the true labels' indices; left out of the JSON."""
    paths: tuple[Path, ...]
    """The image files; left out of the JSON."""
    metrics: Metrics
    """Intervals, ranking and calibration."""
    groups: dict[str, GroupFigures] = field(default_factory=dict)
    """By group of images, the least accurate first: images, accuracy, interval; {} for data without groups."""
    trained_on: int = 0
    """Images that were left out because the model was trained on them."""
    near_trained: int = 0
    """Images that were left out because they are near-duplicates of some that the model was trained on."""
    unreadable: int = 0
    """Images that were left out because they cannot be decoded."""
    kept: KeptImages | None = None
    """The images that keep a label at the model's thresholds; None if it has none.  All other figures are of all images."""
    label_sets: MeasuredSets | None = None
    """None if the model gives no label sets."""
    unknown: MeasuredForeign | None = None
    """Foreign images, of the option ``unknown``."""

    def to_dict(self) -> JsonObject:
        """The evaluation as JSON can hold it."""
        kept = {name: value for name, value in vars(self).items() if name not in ("logits", "truth", "paths")}
        parts = {name: getattr(self, name) for name in ("metrics", "kept", "label_sets", "unknown")}
        return {**kept, **{name: part and asdict(part) for name, part in parts.items()}}

    def plot(self) -> Figure:
        """Return the confusion matrix as a matplotlib figure: rows true, columns predicted, shares by row.

        Raises DependencyError if matplotlib is missing.
        """
        from .plots import draw_confusion

        return draw_confusion({self.model: self})

    def html_parts(self) -> Iterator[str]:
        """Yield the summary, the figures, a table by label, and the confusion matrix or the most frequent confusions."""
        left_out = left_out_lines(self.unreadable, self.trained_on, self.near_trained)
        notes = foreign_notes(self.unknown) if self.unknown else ()
        yield from map(paragraph, (summary(self), *left_out, *notes))
        yield table((), figures(self), *filter(None, rejection_blocks(self)), name="facts")
        yield table(("label", "precision", "recall", "f1", "images", "95 % interval of the recall"), label_rows(self))
        if len(self.labels) <= MOST_LABELS:
            shares = np.array(self.confusion) / np.maximum(np.sum(self.confusion, 1, keepdims=True), 1)
            cells = [
                list(zip(map(str, counts), row, strict=True))
                for counts, row in zip(self.confusion, shares, strict=True)
            ]
            yield shaded_table(("true \\ predicted", *self.labels), zip(self.labels, cells, strict=True))
        else:
            yield table(("label", "predicted", "images"), most_confused(self))

    def __str__(self) -> str:
        return evaluation_text(self)


def evaluate(
    model: str | Path,
    data: str | Path | Dataset,
    options: EvaluateOptions | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> Evaluation:
    """Classify every image of a split and compare the result with its label.

    model: a run, an ONNX file or a bundle; the option ``name`` selects one of its models.  A run's default is its exported
    file; if it has none, it is exported to a temporary one; "torch" is the run's network itself.  data: as for training,
    divided as it was then.  Images that a run was trained on are recognized by their content, and count only in train.
    options: EvaluateOptions, or its fields as keywords.

    Raises ModelError, DataError, ImageError for an image that cannot be decoded, and OutputError for a file of predictions
    or a report that exists, if ``overwrite`` is not given.
    """
    options = merged(EvaluateOptions, options, keywords)
    _claim_outputs(options, overwrite)
    check_engine(options.engine)
    with open_exported(model, options.name, at_once=cores()) as opened:
        chosen = select_images(opened, model, data, options.split, options.skip_unreadable, options.split_of)
        images = EvaluationSet(chosen.samples, opened.classifier.labels, opened.classifier.preprocessing, chosen.data)
        strange = options.unknown and find_foreign(options.unknown, images, options.skip_unreadable)
        known = known_answers(opened, images, options.engine)
        foreign = foreign_answers(opened, strange.paths, options.engine) if strange else None
    found = replace(
        measure(opened.name, chosen.data, options.split, images, known.logits, known.temperature),
        trained_on=chosen.trained_on,
        near_trained=chosen.near_trained,
        unreadable=chosen.unreadable,
        kept=measure_kept(known, images.truth, images.labels),
        label_sets=measure_sets(known, images.truth),
        unknown=measure_foreign(strange, known, foreign, opened) if strange and foreign else None,
    )
    if options.predictions is not None:
        answers = known.confidences, known.reasons, known.distances
        write_predictions(options.predictions, found.labels, found.paths, found.truth, *answers, overwrite=overwrite)
    if options.report is not None:
        with named_by("--report"), new_folder(options.report, overwrite, REPORT_FILE) as folder:
            write_results(Path(folder), subject_of(found, opened, model, chosen, known, foreign))
    return found


def _claim_outputs(options: EvaluateOptions, overwrite: bool) -> None:
    if options.predictions is not None:
        with named_by("--predictions"):
            claim_output(options.predictions, overwrite)
    if options.report is not None:
        with named_by("--report"):
            claim_output(options.report, overwrite, REPORT_FILE)


def measure(
    name: str, data: str, split: str, images: EvaluationSet, logits: np.ndarray, temperature: float = 1.0
) -> Evaluation:
    """Compare a model's logits, float32 [images, labels], with the images' labels."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truth, labels = images.truth, images.labels
    predicted = logits.argmax(1)
    indices = range(len(labels))
    found = precision_recall_fscore_support(truth, predicted, labels=indices, zero_division=0)
    rows = zip(*(column.tolist() for column in found), strict=True)
    metrics = measure_metrics(logits, truth, temperature)
    return Evaluation(
        model=name,
        data=data,
        split=split,
        labels=labels,
        images=len(images),
        accuracy=metrics.accuracy,
        macro_f1=metrics.macro_f1,
        per_label={
            label: dict(zip(("precision", "recall", "f1", "images"), row, strict=True))
            for label, row in zip(labels, rows, strict=True)
        },
        confusion=tuple(tuple(row) for row in confusion_matrix(truth, predicted, labels=indices).tolist()),
        logits=logits,
        truth=truth,
        paths=tuple(images.paths),
        metrics=metrics,
        groups=group_accuracies(truth == predicted, images.groups),
    )
