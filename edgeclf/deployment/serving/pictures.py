"""The job of classifying an image file."""

from __future__ import annotations

import numpy as np

from edgeclf_runtime.classify.classifier import Inferred
from edgeclf_runtime.images.read import decode_image

from .engine import Finish, Prepare
from .metrics import Metrics
from .models import Served


def classify(data: bytes, metrics: Metrics) -> tuple[Prepare, Finish]:
    """Return how to prepare an image file's bytes, and how to make the JSON of its result."""

    def prepare(served: Served) -> np.ndarray:
        return served.classifier.prepare(decode_image(data, "the image"))

    def finish(served: Served, inferred: Inferred, prepare_ms: float) -> object:
        result = served.classifier.answer(inferred, prepare_ms)
        for stage, ms in result.timings_ms.items():
            metrics.stage(served.name, stage, ms)
        return {**result.to_dict(), "bundle": served.version}

    return prepare, finish
