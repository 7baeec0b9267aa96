"""Labels for single images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeclf_runtime.errors import ImageError
from edgeclf_runtime.result import Result

from .models import open_model


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
        return f"{self.image}  {self.result.label}  ({top})"


def predict(
    model: str | Path,
    images: Iterable[str | Path],
    name: str | None = None,
    top_k: int = 5,
    threshold: float | None = None,
) -> list[Prediction]:
    """Classify image files with a run, an ONNX file or a bundle; ``name`` picks one of its models.

    threshold: confidence below which the label is "unknown".  Raises ImageError, its message
    naming the file, for the first image that cannot be decoded.
    """
    return list(predictions(model, images, name, top_k, threshold))


def predictions(
    model: str | Path,
    images: Iterable[str | Path],
    name: str | None = None,
    top_k: int = 5,
    threshold: float | None = None,
    refused: Callable[[ImageError], None] | None = None,
) -> Iterator[Prediction]:
    """Yield what :func:`predict` returns, each when it is known.

    refused: told of each image that cannot be decoded, and the next is classified; None raises the ImageError.
    """
    with open_model(model, name, top_k, threshold) as opened:
        for image in images:
            try:
                result = opened.classifier.classify(str(image))
            except ImageError as error:
                if refused is None:
                    raise
                refused(error)
            else:
                yield Prediction(str(image), result)
