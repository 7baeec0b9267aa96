"""Golden images: proof that a model on this machine gives the logits that the host saw.

A backend can be installed, load a model and answer with wrong numbers without any error
(OpenCV 4.1.1 does for some graphs), so a runner is trusted only after this.
"""

import json
import math
from typing import Any, Dict, NamedTuple

from .errors import BackendError
from .images import read_image
from .preprocess import as_batch, preprocess

FILE = "golden/expected.json"


class GoldenReport(NamedTuple):
    """What the golden images showed of one model on one backend."""

    model: str
    backend: str
    images: int
    labels_agree: int
    largest_difference: float
    tolerance: float

    @property
    def passed(self):
        """Whether every logit is within the tolerance; one that is not finite never is."""
        return self.largest_difference <= self.tolerance

    def to_dict(self) -> Dict[str, Any]:
        """The report as JSON can hold it: a difference that is not finite is None."""
        largest = self.largest_difference if math.isfinite(self.largest_difference) else None
        return dict(self._asdict(), largest_difference=largest, passed=self.passed)

    def __str__(self):
        return (
            "{}: {} on {}: {} of {} golden labels agree, largest difference of a logit {:.2g} (at most {:.2g})".format(
                "pass" if self.passed else "FAIL",
                self.model,
                self.backend,
                self.labels_agree,
                self.images,
                self.largest_difference,
                self.tolerance,
            )
        )


def golden_images(bundle):
    """Return the bundle's golden images, decoded: BGR, uint8 [height, width, 3]."""
    return [read_image(bundle.file(name)) for name in read_golden(bundle)["images"]]


def read_golden(bundle):
    """Return the names of the golden images, and the expected logits by model, one row an image."""
    with open(bundle.file(FILE), encoding="utf-8") as stream:
        return json.load(stream)


def check_golden(bundle, model, runner):
    """Run the bundle's golden images through a runner and compare the logits with the expected ones.

    Returns a GoldenReport.  Raises BackendError where the runner fails or answers in another shape.
    """
    import numpy as np

    expected = np.array(read_golden(bundle)["logits"][model.name], np.float32)
    found = np.stack(
        [runner.infer(as_batch([preprocess(image, bundle.preprocessing)]))[0] for image in golden_images(bundle)]
    )
    if found.shape != expected.shape:
        raise BackendError(
            "{} on {} answers with logits of shape {}; {} was expected, make the bundle again".format(
                model.name, runner.backend, list(found.shape), list(expected.shape)
            )
        )
    return GoldenReport(
        model=model.name,
        backend=runner.backend,
        images=len(found),
        labels_agree=int((found.argmax(1) == expected.argmax(1)).sum()),
        largest_difference=float(np.abs(found - expected).max()),
        tolerance=model.tolerance,
    )
