"""An EvaluationSet: labeled images on which several models are evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch

from ..data.datasets import Sample
from ..data.pixels import load_all, load_each
from ..display.progress import track
from ..errors import DataError

MOST_BYTES_KEPT = 512 << 20
"""Decoded images that are kept in memory for the next model; larger sets are decoded for each."""


class EvaluationSet:
    """Images and their labels, decoded once if they fit MOST_BYTES_KEPT.

    paths       the image files
    truth       int [images], indices in ``labels``
    groups      each image's group, "" for none
    name        the data's name, for the message
    pixels      the images as the model sees them, if they are decoded already

    Raises DataError for a sample whose label is not among ``labels``, the model's.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: tuple[str, ...],
        spec: Preprocessing,
        name: str = "the data",
        pixels: Sequence[np.ndarray] = (),
    ) -> None:
        unknown = sorted({sample.label for sample in samples} - set(labels))
        if unknown:
            raise DataError(
                f"{name} has the labels {', '.join(unknown)}, which the model does not know; "
                f"it knows {', '.join(labels)}: rename or remove them, or train again"
            )
        index = {label: number for number, label in enumerate(labels)}
        self.labels, self.spec = labels, spec
        self.paths: list[Path] = [sample.path for sample in samples]
        self.truth = np.array([index[sample.label] for sample in samples], int)
        self.groups = [sample.group for sample in samples]
        self._pixels = list(pixels)

    @classmethod
    def unlabeled(cls, paths: Sequence[Path], spec: Preprocessing) -> EvaluationSet:
        """Return images without labels, to be inferred only: their ``truth`` means nothing."""
        return cls([Sample(path, "", "") for path in paths], ("",), spec)

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def sha256(self) -> list[str]:
        """Each file's SHA-256, as it is now."""
        return list(load_each(self.paths, sha256_file))

    def pixels(self, what: str = "") -> Iterator[np.ndarray]:
        """Yield each image as the model sees it, uint8 [height, width, 3]; ``what`` names the work in the progress, if any.

        Raises ImageError for a file that cannot be decoded.
        """
        kept = bool(self._pixels)
        pixels = self._pixels if kept else load_all(self.paths, self.spec)
        fits = len(self) * self.spec.height * self.spec.width * 3 <= MOST_BYTES_KEPT
        decoded = []
        for image in track(pixels, what, len(self)) if what else pixels:
            if fits and not kept:
                decoded.append(image)
            yield image
        if not kept:
            self._pixels = decoded

    def batches(self, what: str = "") -> Iterator[np.ndarray]:
        """Yield each image as a model's input, float32 [1, height, width, 3]; see pixels()."""
        return (as_batch([image]) for image in self.pixels(what))

    def subset(self, indices: Sequence[int] | np.ndarray) -> EvaluationSet:
        """Return the images at these indices."""
        part = EvaluationSet((), self.labels, self.spec)
        part.paths, part.truth = [self.paths[i] for i in indices], self.truth[indices]
        part.groups = [self.groups[i] for i in indices]
        part._pixels = [self._pixels[i] for i in indices] if self._pixels else []
        return part
