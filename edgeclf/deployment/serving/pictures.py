"""The task of classifying an image file."""

from __future__ import annotations

import time

import numpy as np

from edgeclf_runtime.classify.classifier import Inferred
from edgeclf_runtime.images.read import decode_image

from .metrics import Metrics
from .models import Served
from .uploads import image_in


class Picture:
    """Classifies the image in a body; the answer is the JSON of the result.

    kind: the body's content type.
    """

    def __init__(self, body: bytes, kind: str, metrics: Metrics) -> None:
        self._body, self._kind, self._metrics, self._preprocess_ms = body, kind, metrics, 0.0

    def prepare(self, served: Served) -> np.ndarray:
        """See engine.Task; raises ImageError, or Refusal for a body without an image."""
        start = time.perf_counter()
        pixels = decode_image(image_in(self._body, self._kind), "the image")
        decoded = time.perf_counter()
        batch = served.classifier.prepare(pixels)
        self._preprocess_ms = (time.perf_counter() - decoded) * 1e3
        self._metrics.stage(served.name, "decode", (decoded - start) * 1e3)
        self._metrics.stage(served.name, "preprocess", self._preprocess_ms)
        return batch

    def finish(self, served: Served, inferred: Inferred) -> object:
        """See engine.Task."""
        result = served.classifier.answer(inferred, self._preprocess_ms)
        self._metrics.result(served.name, result.candidate, result.reason)
        return {**result.to_dict(), "bundle": served.version}
