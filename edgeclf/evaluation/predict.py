"""Classifies image files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.errors import ImageError
from edgeclf_runtime.images.read import each_image
from edgeclf_runtime.results import Result
from edgeclf_runtime.text.terminal import printable

from .open_model import open_model
from .prediction_file import prediction_file


@dataclass(frozen=True)
class Prediction:
    """One image and its result."""

    image: str
    result: Result

    def to_json(self) -> str:
        """The prediction as one JSON object."""
        return json.dumps({"image": self.image, **self.result.to_dict()}, ensure_ascii=False)

    def __str__(self) -> str:
        top = "  ".join(f"{label} {confidence:.4f}" for label, confidence in self.result.top)
        # Names may contain line breaks; this is one line.
        found = self.result.verdict if self.result.rejected else self.result.label
        return printable(f"{self.image}  {found}  ({top})")


def predict(
    model: str | Path,
    images: Iterable[str | Path],
    name: str | None = None,
    top_k: int = 5,
    threshold: float | None = None,
    predictions: str | Path | None = None,
    overwrite: bool = False,
) -> list[Prediction]:
    """Classify image files, and those in folders, with a run, an ONNX file or a bundle; ``name`` selects one of its models.

    threshold: confidence below which the label is "unknown".  predictions: a CSV file to write, see each_prediction().
    Raises ImageError, which names the file, for the first image that cannot be decoded.
    """
    found = []
    with open_model(model, name, top_k, threshold) as opened:
        for answer in each_prediction(opened.classifier, images, predictions, overwrite):
            if isinstance(answer, ImageError):
                raise answer
            found.append(answer)
    return found


def each_prediction(
    classifier: Classifier, images: Iterable[str | Path], file: str | Path | None = None, overwrite: bool = False
) -> Iterator[Prediction | ImageError]:
    """Yield the Prediction of each image file, also in folders and patterns, or the ImageError if it cannot be decoded.

    file: a CSV file with a row for each prediction, written when the last one has been taken; its column ``label``, for the
    true label, is empty.
    """
    with prediction_file(file, overwrite) as add:
        for image in each_image(images):
            try:
                if isinstance(image, ImageError):
                    raise image
                found = Prediction(str(image), classifier.classify(str(image)))
            except ImageError as error:
                yield error
            else:
                add(found.image, "", found.result.label, found.result.confidence)
                yield found
