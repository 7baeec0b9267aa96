"""Golden images: proof that a model on this machine gives the logits that the host saw.

A backend can be installed, load a model and answer with wrong numbers without any error
(OpenCV 4.1.1 does for some graphs), so a runner is trusted only after this.
"""

import math
from typing import Any, Dict, NamedTuple

from .errors import BackendError, BundleError
from .images import decode_image
from .limit import within
from .manifest import golden_schema
from .preprocess import as_batch, preprocess
from .schema import SchemaError, parse_json

FILE = "golden/expected.json"
# For one image: an emulated Cortex-A57 takes five seconds, and a GPU that fell off never answers.
TIMEOUT_S = 60.0


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
    files = [bundle.file(name) for name in read_golden(bundle)["images"]]
    return [decode_image(file.read(), file.path) for file in files]


def read_golden(bundle):
    """Return the names of the golden images, and the expected logits by model, one row an image.

    Raises BundleError if the file is not as declared, or names an image that the manifest does not list.
    """
    file = bundle.file(FILE)
    try:
        golden = parse_json(file.read())
        golden_schema([model.name for model in bundle.models], len(bundle.labels))(golden, "")
    except SchemaError as error:
        raise BundleError("{}: {}; make the bundle again".format(file, error))
    return golden


def check_golden(bundle, model, runner, timeout_s=TIMEOUT_S):
    """Run the bundle's golden images through a runner and compare the logits with the expected ones.

    timeout_s   for each image

    Returns a GoldenReport.  Raises BackendError if the runner fails or answers in another shape, and Hung if it does
    not answer in time.
    """
    import numpy as np

    expected = np.array(read_golden(bundle)["logits"][model.name], np.float32)
    found = np.stack(
        [
            within(timeout_s, "{} on {}".format(model.name, runner.backend), runner.infer, batch)[0]
            for batch in [as_batch([preprocess(image, bundle.preprocessing)]) for image in golden_images(bundle)]
        ]
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
