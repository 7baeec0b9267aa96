"""How right a model is on labelled images, measured as the device would run it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.text.terminal import printable

from ..data.datasets import SPLITS, Dataset, Sample, load_dataset
from ..data.pixels import load_batches
from ..errors import DataError, OptionError
from .opening import OpenModel, open_model

_COLUMNS = 80
"""Of a terminal; a wider confusion matrix is shown otherwise, and --json always has it whole."""
_SHOWN = 10
"""Confusions to list if there is no room for the matrix."""


@dataclass(frozen=True)
class Evaluation:
    """The outcome of a model on one split."""

    model: str
    data: str
    split: str
    labels: tuple[str, ...]
    images: int
    accuracy: float
    macro_f1: float
    """The mean over the labels that have images in the split."""
    per_label: dict[str, dict[str, float]]
    """By label: precision, recall, f1, images."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows: the true label; columns: the predicted one."""
    logits: np.ndarray
    """float32 [images, labels], in the order of the split; left out of the JSON."""
    truth: np.ndarray
    """int [images], the true labels' places; left out of the JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON can hold it."""
        return {name: value for name, value in vars(self).items() if name not in ("logits", "truth")}

    def to_json(self) -> str:
        """The evaluation as one JSON object."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def __str__(self) -> str:
        labels = [printable(label) for label in self.labels]
        width = max([len(label) for label in labels] + [9])
        lines = [f"{'label':<{width}}  precision  recall      f1  images"]
        for label, row in zip(labels, self.per_label.values(), strict=True):
            lines.append(
                f"{label:<{width}}  {row['precision']:9.4f}  {row['recall']:6.4f}  {row['f1']:6.4f}  {row['images']:6.0f}"
            )
        lines += ["", *self._confusion_lines(labels, width), ""]
        what = printable(f"{self.model} on {self.data} ({self.split})")
        lines.append(f"{what}: accuracy {self.accuracy:.4f}, macro F1 {self.macro_f1:.4f}, {self.images} images")
        return "\n".join(lines)

    def _confusion_lines(self, labels: list[str], width: int) -> list[str]:
        """The confusion matrix, or if it is too wide for a terminal the most frequent confusions."""
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
        return self._confused_most(labels, width)

    def _confused_most(self, labels: list[str], width: int) -> list[str]:
        wrong = np.array(self.confusion)
        np.fill_diagonal(wrong, 0)
        most = [divmod(int(place), len(labels)) for place in np.argsort(-wrong, axis=None, kind="stable")[:_SHOWN]]
        rows = [f"{labels[i]:<{width}}  {labels[j]:<{width}}  {wrong[i, j]:6}" for i, j in most if wrong[i, j]]
        return [f"{'label':<{width}}  {'predicted':<{width}}  images", *rows]


def evaluate(model: str | Path, data: str | Path | Dataset, split: str = "test", name: str | None = None) -> Evaluation:
    """Classify every image of a split and compare with its label.

    model: a run, an ONNX file or a bundle; ``name`` picks one of its models.  data: as for
    training, divided as it was then.  split: train, val, test, or all for images that
    training never saw.
    Raises ModelError, DataError, and ImageError for an image that cannot be decoded.
    """
    if split not in (*SPLITS, "all"):
        raise OptionError(f"split is {split!r}; {', '.join(SPLITS)} or all was expected")
    with open_model(model, name) as opened:
        dataset = load_dataset(data, opened.split_options)
        if split != "all" and opened.split_options is None and dataset.divided_by:
            raise DataError(
                f"{dataset.name} is not divided into train, val and test, as the data was that {model} was trained on: "
                "measure it whole with --split all"
            )
        samples = list(dataset.samples) if split == "all" else dataset.split(split)
        # Known before minutes are spent on inference.
        _places(dataset, samples, opened.classifier.labels)
        logits = infer_samples(opened, samples, f"evaluating {opened.name}")
        return measure(opened.name, dataset, split, samples, logits, opened.classifier.labels)


def infer_samples(model: OpenModel, samples: list[Sample], what: str) -> np.ndarray:
    """Return the logits of each sample, float32 [samples, labels], one image at a time as a device does."""
    paths = [sample.path for sample in samples]
    batches = load_batches(paths, model.classifier.preprocessing, 1, what)
    return np.concatenate([model.classifier.runner.infer(batch) for batch in batches])


def measure(
    name: str, dataset: Dataset, split: str, samples: list[Sample], logits: np.ndarray, labels: tuple[str, ...]
) -> Evaluation:
    """Compare logits, float32 [samples, labels], with the samples' labels."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truth = _places(dataset, samples, labels)
    predicted = logits.argmax(1)
    there = range(len(labels))
    precision, recall, f1, images = precision_recall_fscore_support(truth, predicted, labels=there, zero_division=0)
    rows = zip(precision.tolist(), recall.tolist(), f1.tolist(), images.tolist(), strict=True)
    return Evaluation(
        model=name,
        data=dataset.name,
        split=split,
        labels=labels,
        images=len(samples),
        accuracy=float((truth == predicted).mean()),
        macro_f1=float(np.mean([value for value, count in zip(f1, images, strict=True) if count])),
        per_label={
            label: dict(zip(("precision", "recall", "f1", "images"), row, strict=True))
            for label, row in zip(labels, rows, strict=True)
        },
        confusion=tuple(tuple(row) for row in confusion_matrix(truth, predicted, labels=there).tolist()),
        logits=logits,
        truth=truth,
    )


def _places(dataset: Dataset, samples: list[Sample], labels: tuple[str, ...]) -> np.ndarray:
    """Return each sample's label as its place in a model's labels; DataError names those that the model lacks."""
    unknown = sorted({sample.label for sample in samples} - set(labels))
    if unknown:
        raise DataError(
            f"{dataset.name} has the labels {', '.join(unknown)}, which the model does not know; "
            f"it knows {', '.join(labels)}: rename or remove them, or train anew"
        )
    places = {label: place for place, label in enumerate(labels)}
    return np.array([places[sample.label] for sample in samples])
