"""Evaluates a model on labeled images: accuracy, F1 and confusions, measured as the device would run it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeclf_runtime.classify.decision import softmax
from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.files.outputs import claim_output, new_folder
from edgeclf_runtime.text.terminal import printable

from ..data.datasets import SPLITS, Dataset, load_dataset
from ..data.findings import count_files, left_out_lines
from ..data.pixels import without_unreadable
from ..display.prediction_file import prediction_file
from ..display.progress import say
from ..display.report import Report, paragraph, shaded_table, table
from ..errors import DataError, OptionError
from ..graph.inference import infer
from ..training.results.folder import REPORT_FILE, write_results
from ..training.runs import write_split
from .evaluation_set import EvaluationSet
from .open_model import OpenModel, open_model
from .result_subject import subject_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 80
"""A terminal's width; a wider confusion matrix is shown in another form, and --json always has all of it."""
_SHOWN = 10
"""Confusions to list if the matrix does not fit."""
_MATRIX_LABELS = 30
"""Labels of a confusion matrix that fits a notebook."""


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
    trained_on: int = 0
    """Images that were left out because the model was trained on them."""
    unreadable: int = 0
    """Images that were left out because they cannot be decoded."""

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON can hold it."""
        return {name: value for name, value in vars(self).items() if name not in ("logits", "truth", "paths")}

    def plot(self) -> Figure:
        """Return the confusion matrix as a matplotlib figure: rows true, columns predicted, shares by row.

        Raises DependencyError if matplotlib is missing.
        """
        from .plots import draw_confusion

        return draw_confusion({self.model: self})

    def html_parts(self) -> Iterator[str]:
        """Yield the summary, a table by label, and the confusion matrix, or of many labels the most frequent confusions."""
        yield from map(paragraph, (self._summary(), *left_out_lines(self.unreadable, self.trained_on)))
        columns = ("precision", "recall", "f1")
        rows = (
            (label, *(f"{row[name]:.4f}" for name in columns), f"{row['images']:.0f}")
            for label, row in self.per_label.items()
        )
        yield table(("label", *columns, "images"), rows)
        if len(self.labels) <= _MATRIX_LABELS:
            shares = np.array(self.confusion) / np.maximum(np.sum(self.confusion, 1, keepdims=True), 1)
            cells = [
                list(zip(map(str, counts), row, strict=True))
                for counts, row in zip(self.confusion, shares, strict=True)
            ]
            yield shaded_table(("true \\ predicted", *self.labels), zip(self.labels, cells, strict=True))
        else:
            yield table(("label", "predicted", "images"), self._most_confused())

    def _summary(self) -> str:
        what = f"{self.model} on {self.data} ({self.split})"
        return f"{what}: accuracy {self.accuracy:.4f}, macro F1 {self.macro_f1:.4f}, {self.images} images"

    def __str__(self) -> str:
        labels = [_shortened(printable(label), _COLUMNS - 37) for label in self.labels]
        width = max([len(label) for label in labels] + [9])
        lines = [f"{'label':<{width}}  precision  recall      f1  images"]
        for label, row in zip(labels, self.per_label.values(), strict=True):
            lines.append(
                f"{label:<{width}}  {row['precision']:9.4f}  {row['recall']:6.4f}  {row['f1']:6.4f}  {row['images']:6.0f}"
            )
        lines += ["", *self._confusion_lines(labels), ""]
        lines += [printable(self._summary()), *left_out_lines(self.unreadable, self.trained_on)]
        return "\n".join(lines)

    def _confusion_lines(self, labels: list[str]) -> list[str]:
        """Return the confusion matrix, or if it is too wide for a terminal the most frequent confusions."""
        numbers = [str(number) for number in range(1, len(labels) + 1)]
        for columns, rows in (
            (labels, labels),
            (numbers, [f"{number:>2} {label}" for number, label in zip(numbers, labels, strict=True)]),
        ):
            first = max(len(row) for row in (*rows, "predicted"))
            cell = max(len(text) for text in (*columns, str(max(map(max, self.confusion)))))
            if first + len(columns) * (cell + 2) <= _COLUMNS:
                counts = [[str(count) for count in row] for row in self.confusion]
                return [
                    f"{name:<{first}}" + "".join(f"  {text:>{cell}}" for text in row)
                    for name, row in zip(("predicted", *rows), (columns, *counts), strict=True)
                ]
        short = [_shortened(label, (_COLUMNS - 10) // 2) for label in labels]
        width = max(map(len, (*short, "predicted")))
        return [
            f"{label:<{width}}  {predicted:<{width}}  {count:>6}"
            for label, predicted, count in (("label", "predicted", "images"), *self._most_confused(short))
        ]

    def _most_confused(self, labels: Sequence[str] = ()) -> list[tuple[str, str, int]]:
        """Return true label, predicted label and number of images of the most frequent confusions; labels: their names."""
        names, wrong = labels or self.labels, np.array(self.confusion)
        np.fill_diagonal(wrong, 0)
        most = [divmod(int(index), len(names)) for index in np.argsort(-wrong, axis=None, kind="stable")[:_SHOWN]]
        return [(names[i], names[j], int(wrong[i, j])) for i, j in most if wrong[i, j]]


def _shortened(label: str, most: int) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def evaluate(
    model: str | Path,
    data: str | Path | Dataset,
    split: str = "test",
    name: str | None = None,
    predictions: str | Path | None = None,
    overwrite: bool = False,
    skip_unreadable: bool = False,
    report: str | Path | None = None,
) -> Evaluation:
    """Classify every image of a split and compare the result with its label.

    model: a run, an ONNX file or a bundle; ``name`` selects one of its models.  A run's default is its exported file, and
    torch if it has none.  data: as for training, divided as it was then.  split: train, val, test, or all.  Images that a run
    was trained on are recognized by their content, and count only in train.  predictions: a CSV file to write, with path,
    label, predicted label and confidence of each image.  skip_unreadable: leave out images that cannot be decoded.  report: a
    folder to make, with report.html for people, report.json, and predictions.csv.
    Raises ModelError, DataError, ImageError for an image that cannot be decoded, and OutputError for a file of predictions
    that exists, if ``overwrite`` is not given.
    """
    if split not in (*SPLITS, "all"):
        raise OptionError(f"split is {split!r}; {', '.join(SPLITS)} or all was expected")
    if predictions is not None:
        claim_output(predictions, overwrite)
    if report is not None:
        claim_output(report, overwrite, REPORT_FILE)
    with open_model(model, name, at_once=cores()) as opened:
        dataset = load_dataset(data, opened.split_options)
        if split != "all" and opened.split_options is None and dataset.divided_by:
            raise DataError(
                f"{dataset.name} is not divided into train, val and test as the data that {model} was trained on was: "
                "evaluate all of it with --split all"
            )
        dataset, trained_on = _without_trained(opened, dataset, split)
        if skip_unreadable:
            dataset = without_unreadable(dataset, SPLITS if split == "all" else (split,))
        samples = list(dataset.samples) if split == "all" else dataset.split(split)
        images = EvaluationSet(samples, opened.classifier.labels, opened.classifier.preprocessing, dataset.name)
        logits = infer(opened.classifier.runner, images.batches(f"evaluating {opened.name}"), cores())
        temperature = opened.classifier.in_use.temperature
    found = replace(
        measure(opened.name, dataset.name, split, images, logits),
        trained_on=trained_on,
        unreadable=count_files(dataset.findings, "unreadable"),
    )
    _write_predictions(found, temperature, predictions, overwrite)
    if report is not None:
        with new_folder(report, overwrite, REPORT_FILE) as folder:
            write_results(Path(folder), subject_of(found, opened, model, dataset, temperature))
    return found


def _without_trained(opened: OpenModel, dataset: Dataset, split: str) -> tuple[Dataset, int]:
    """Return a data set divided as the model's was, without the images that it was trained on, and their number.

    They stay in train, and where the data's own folders have them, with a warning.
    """
    run = opened.run
    # A data set with a folder train/ and no test has said which images are which.
    divided = run is not None and dataset.divided_by is not None and dataset.counts()["test"] > 0
    trained = set() if split == "train" else _trained(opened, dataset, split)
    if run is not None and not divided and split != "all":
        if trained:
            total = dataset.counts()[split]
            say(f"warning: the model was trained on {len(trained)} of the {total} images in {split} of {dataset.name}")
        return dataset, 0
    left = dataset.without(trained)
    if trained and not left.samples:
        raise DataError(
            f"the model was trained on every image of {dataset.name}: evaluate other images, or these with --split train"
        )
    return run.recall(left) if run is not None and divided else left, len(trained)


def _trained(opened: OpenModel, dataset: Dataset, split: str) -> set[Path]:
    """Return the images of a split, or of all, that a model was trained on, as far as that is known."""
    asked = [sample for sample in dataset.samples if split in (sample.split, "all")]
    if opened.run is not None:
        known = opened.run.trained_on()
        return {sample.path for sample, digest in zip(asked, dataset.sha256(asked), strict=True) if digest in known}
    if split != "all":
        return set()
    if _is_the_trained_data(opened, dataset):
        return {sample.path for sample in asked if sample.split == "train"}
    if opened.split_options is not None:
        say(
            f"warning: {opened.name} does not record which images it was trained on, so some of {dataset.name} may be "
            "among them: evaluate the run instead, which leaves them out"
        )
    return set()


def _is_the_trained_data(opened: OpenModel, dataset: Dataset) -> bool:
    """Return whether a bundle's run was trained on exactly this data."""
    if not opened.split_sha256:
        return False
    with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
        return write_split(Path(folder), dataset) == opened.split_sha256


def _write_predictions(found: Evaluation, temperature: float, path: str | Path | None, overwrite: bool) -> None:
    confidences = softmax(found.logits / temperature)
    with prediction_file(path, overwrite) as add:
        for image, truth, row in zip(found.paths, found.truth, confidences, strict=True):
            add(str(image), found.labels[truth], found.labels[row.argmax()], row.max())


def measure(name: str, data: str, split: str, images: EvaluationSet, logits: np.ndarray) -> Evaluation:
    """Compare a model's logits, float32 [images, labels], with the images' labels."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truth, labels = images.truth, images.labels
    predicted = logits.argmax(1)
    indices = range(len(labels))
    precision, recall, f1, counts = precision_recall_fscore_support(truth, predicted, labels=indices, zero_division=0)
    rows = zip(precision.tolist(), recall.tolist(), f1.tolist(), counts.tolist(), strict=True)
    return Evaluation(
        model=name,
        data=data,
        split=split,
        labels=labels,
        images=len(images),
        accuracy=float((truth == predicted).mean()),
        macro_f1=float(np.mean([value for value, count in zip(f1, counts, strict=True) if count])),
        per_label={
            label: dict(zip(("precision", "recall", "f1", "images"), row, strict=True))
            for label, row in zip(labels, rows, strict=True)
        },
        confusion=tuple(tuple(row) for row in confusion_matrix(truth, predicted, labels=indices).tolist()),
        logits=logits,
        truth=truth,
        paths=tuple(images.paths),
    )
