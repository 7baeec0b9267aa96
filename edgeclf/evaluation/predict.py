"""Classifies image files, Pillow images and arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeclf_runtime.classify.rejection import DISTANCE
from edgeclf_runtime.errors import ImageError
from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.images.pixel_layouts import as_bgr
from edgeclf_runtime.images.read import each_image
from edgeclf_runtime.results import Result
from edgeclf_runtime.text.terminal import printable

from ..data.conversion.heif import heif_kind
from ..data.conversion.pillow import is_pillow, pillow_pixels
from ..data.pixels import read_photo
from ..data.tree import IMAGE_SUFFIXES
from ..display.prediction_file import prediction_file
from ..display.report import Bars, Report, listed, page, table
from ..errors import DependencyError, OptionError
from ..options import PredictOptions, merged
from .export import open_exported

if TYPE_CHECKING:
    from ..display.report import Printer


@dataclass(frozen=True)
class Prediction(Report):
    """One image and its result."""

    image: str
    result: Result

    def to_dict(self) -> JsonObject:
        """The prediction as a JSON-compatible dict."""
        return {"image": self.image, **self.result.to_dict()}

    def bars(self) -> Iterator[Bars]:
        """Yield the confidence of the most likely labels."""
        yield Bars(f"confidence, {Path(self.image).name}", dict(self.result.top), "{:.1%}")

    def __str__(self) -> str:
        top = "  ".join(f"{label} {confidence:.4f}" for label, confidence in self.result.top)
        # Names may contain line breaks; this is one line.
        found = self.result.verdict if self.result.rejected else self.result.label
        return printable(f"{self.image}  {found}  ({top}){''.join(self._more())}")

    def _more(self) -> Iterator[str]:
        """Yield what only some bundles give, as far as the verdict does not say it."""
        result = self.result
        if result.distance is not None and result.reason != DISTANCE:
            yield f"  distance {result.distance:.1f}"
        if result.label_set is not None:
            yield f"  possible: {', '.join(result.label_set) or 'none'}"


class Predictions(list[Prediction]):
    """A list of predictions, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        return page([table(("image", "label", "confidence", "next"), map(_row, self))])

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        printer.text("\n".join(map(str, self)))


def _row(found: Prediction) -> tuple[str, str, str, str]:
    result = found.result
    others = [
        f"{label} {confidence:.4f}" for label, confidence in result.top if label != (result.candidate or result.label)
    ]
    return found.image, result.label, f"{result.confidence:.4f}", listed(others, 2)


def predict(
    model: str | Path,
    images: object,
    options: PredictOptions | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> list[Prediction]:
    """Classify images with a run, an ONNX file or a bundle; the option ``name`` selects one of its models.

    images: one image or several: paths of files, folders and patterns; Pillow images, which are turned upright by their EXIF
    data; numpy arrays of uint8, [height, width, 3], [height, width, 4], whose fourth channel is dropped, or gray
    [height, width]; an array [N, height, width, 3] is N images.  An array or a Pillow image gives the result of the lossless
    file that it was read from.  options: PredictOptions, or its fields as keywords; ``order``, "rgb" or "bgr", is needed for
    arrays, and has no default, since a wrong one is not noticed.

    Raises ImageError, which names the image, for the first one that cannot be classified.
    """
    found = Predictions()
    for answer in each_prediction(model, images, merged(PredictOptions, options, keywords), overwrite):
        if isinstance(answer, ImageError):
            raise answer
        found.append(answer)
    return found


def each_prediction(
    model: str | Path, images: object, options: PredictOptions, overwrite: bool = False
) -> Iterator[Prediction | ImageError]:
    """Yield the Prediction of each image, also in folders and patterns, or the ImageError if it cannot be classified.

    model, images, options: as for predict().  The CSV file has a row for each prediction, and is written when the last one has
    been taken; its column ``label``, for the true label, is empty.
    """
    with (
        open_exported(model, options.name, options.top_k, options.threshold) as opened,
        prediction_file(options.predictions, overwrite) as add,
    ):
        for name, image in _each(images):
            try:
                if isinstance(image, ImageError):
                    raise image
                found = Prediction(name, opened.classifier.classify(_pixels(image, name, options.order)))
            except ImageError as error:
                yield error
            else:
                result = found.result
                add(found.image, "", result.label, result.confidence, result.reason, result.distance)
                yield found


def _each(images: Any) -> Iterator[tuple[str, object]]:
    """Yield the name and value of each image: a path, an ImageError, or what should be pixels."""
    several = isinstance(images, Iterable) and not (is_pillow(images) or _is_one(images))
    for number, image in enumerate(images if several else [images]):
        name = f"images[{number}]" if several else "image"
        if isinstance(image, (str, os.PathLike)):
            yield from ((str(path), path) for path in each_image([image], IMAGE_SUFFIXES))
        else:
            yield name, image


def _pixels(image: Any, name: str, order: str | None) -> str | np.ndarray:
    """Return what a classifier takes: a path as it is, else uint8 [height, width, 3], BGR."""
    if isinstance(image, str):
        return readable(image)
    if is_pillow(image):
        return pillow_pixels(image, name)
    try:
        pixels = as_bgr(image, "rgb" if order is None else order)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    if order is None and image.ndim == 3 and image.shape[2] > 1:
        raise OptionError(
            f'{name}: an array with {image.shape[2]} channels, whose order was not given: pass order="rgb" (Pillow, torchvision, '
            'matplotlib) or order="bgr" (OpenCV)'
        )
    return pixels


def readable(path: str) -> str | np.ndarray:
    """Return what a classifier takes for a file: its path, or the pixels of a photograph that a device does not read."""
    return _heif_pixels(Path(path)) if heif_kind(Path(path)) else path


def _heif_pixels(path: Path) -> np.ndarray:
    """Return the pixels of a photograph that a device does not read; ImageError if the library is missing, too."""
    try:
        return read_photo(path)
    except DependencyError as error:
        raise ImageError(str(error)) from None


def _is_one(images: Any) -> bool:
    """Return whether this is one path, array or tensor; a column of paths, of numpy or pandas, is several."""
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUS":
        return images.ndim != 4
    return isinstance(images, (str, os.PathLike, bytes)) or (hasattr(images, "__array__") and images.ndim not in (1, 4))
