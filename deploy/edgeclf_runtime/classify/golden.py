"""Golden images: proof that a model on this machine gives the logits that the host saw.

A backend can be installed, load a model and answer with wrong numbers without any error
(OpenCV 4.1.1 does for some graphs), so a runner is trusted only after this.
"""

import math
from typing import Any, Dict, NamedTuple

from ..bundle.manifest import golden_schema
from ..bundle.open import Tolerance
from ..device.time_limit import within
from ..errors import BackendError, BundleError
from ..files.schema import SchemaError, parse_json
from ..images.preprocess import as_batch, preprocess
from ..images.read import decode_image
from ..runners.base import close_quietly, library_errors

FILE = "golden/expected.json"
_LEAST = 1e-12
# For one image: an emulated Cortex-A57 takes five seconds, and a GPU that fell off never answers.
TIMEOUT_S = 60.0


# The label must match if the host's margin between its two best logits is larger than this many times the allowed mean
# difference: both logits differ, and one of a hundred logits is off by four times the mean.
_SURE = 8.0


class GoldenReport(NamedTuple):
    """What the golden images showed of one model on one backend.

    labels_agree    images that get the host's label
    labels_wrong    images that get another label despite a clear margin
    largest_difference, mean_difference, divergence     see bundle.Tolerance
    """

    model: str
    backend: str
    images: int
    labels_agree: int
    labels_wrong: int
    largest_difference: float
    mean_difference: float
    divergence: float
    tolerance: Tolerance

    @property
    def passed(self):
        """Whether no label is wrong and every difference is finite and within its tolerance."""
        return not self.labels_wrong and all(found <= limit for found, limit in self._differences())

    def _differences(self):
        return zip((self.largest_difference, self.mean_difference, self.divergence), self.tolerance)

    def to_dict(self) -> Dict[str, Any]:
        """The report as JSON can hold it: a difference that is not finite is None."""
        facts = dict(self._asdict(), tolerance=dict(self.tolerance._asdict()), passed=self.passed)
        for name in ("largest_difference", "mean_difference", "divergence"):
            facts[name] = facts[name] if math.isfinite(facts[name]) else None
        return facts

    def differences(self):
        """Return the differences and their limits as text."""
        (largest, most), (mean, most_mean), (divergence, most_divergence) = self._differences()
        return (
            "logits differ by {:.2g} at most (allowed {:.2g}) and {:.2g} on average ({:.2g}), probabilities by {:.2g} nats "
            "({:.2g})".format(largest, most, mean, most_mean, divergence, most_divergence)
        )

    def __str__(self):
        wrong = ", {} of the others clearly another".format(self.labels_wrong) if self.labels_wrong else ""
        return "{}: {} on {}: {} of {} golden labels agree{}, {}".format(
            "pass" if self.passed else "FAIL",
            self.model,
            self.backend,
            self.labels_agree,
            self.images,
            wrong,
            self.differences(),
        )


def golden_images(bundle):
    """Return the bundle's golden images, decoded: BGR, uint8 [height, width, 3]."""
    files = [bundle.file(name) for name in read_golden(bundle)["images"]]
    return [decode_image(file.read(), file.path) for file in files]


def read_golden(bundle):
    """Return the names of the golden images, and the expected logits by model, one row an image.

    Raises BundleError if the file is not as declared, or its labels are not the manifest's in the same order.
    """
    file = bundle.file(FILE)
    try:
        golden = parse_json(file.read())
        golden_schema([model.name for model in bundle.models], len(bundle.labels))(golden, "")
    except SchemaError as error:
        raise BundleError("{}: {}; make the bundle again".format(file, error))
    for number, (label, other) in enumerate(zip(bundle.labels, golden.get("labels", bundle.labels))):
        if label != other:
            raise BundleError(
                "{}: the label {} is {!a} there and {!a} in the manifest; make the bundle again".format(
                    file, number, other, label
                )
            )
    return golden


def check_golden(bundle, model, runner, timeout_s=TIMEOUT_S):
    """Run the bundle's golden images through a runner and compare the logits with the expected ones.

    timeout_s   for each image

    Returns a GoldenReport.  Raises BackendError if the runner fails or answers in another shape, and Hung if it does
    not answer in time: then it closes the runner once that returns, and nobody else may.
    """
    import numpy as np

    expected = np.array(read_golden(bundle)["logits"][model.name], np.float32)
    name = "{} on {}".format(model.name, runner.backend)

    def infer(image):
        batch = as_batch([preprocess(image, bundle.preprocessing)])
        with library_errors("{} failed".format(name)):
            logits = within(timeout_s, name, runner.infer, batch, late=lambda _: close_quietly(runner))
        return check_logits(name, logits, (1, expected.shape[1]))[0]

    found = np.stack([infer(image) for image in golden_images(bundle)])
    return compare_logits(model, runner.backend, expected, found)


def check_logits(name, logits, shape):
    """Return logits if they are an array of numbers of that shape; BackendError says what ``name`` gave instead."""
    found = getattr(logits, "shape", None)
    if found is None or logits.dtype.kind not in "fiu":
        raise BackendError(
            "{} answers with {}; logits of shape {} were expected, make the bundle again".format(
                name, getattr(logits, "dtype", type(logits).__name__), list(shape)
            )
        )
    if found != shape:
        raise BackendError(
            "{} answers with logits of shape {}; {} was expected, make the bundle again".format(
                name, list(found), list(shape)
            )
        )
    return logits


def compare_logits(model, backend, expected, found):
    """Return the GoldenReport of a model's logits, float32 [images, labels], beside the expected ones."""
    import numpy as np

    tolerance = model.tolerance(backend)
    difference = np.abs(found.astype(np.float64) - expected)
    wrong = found.argmax(1) != expected.argmax(1)
    best = np.sort(expected, 1)[:, -2:]
    sure = best[:, -1] - best[:, 0] > _SURE * tolerance.mean
    return GoldenReport(
        model=model.name,
        backend=backend,
        images=len(found),
        labels_agree=int((~wrong).sum()),
        labels_wrong=int((wrong & sure).sum()),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        divergence=divergence(expected, found),
        tolerance=tolerance,
    )


def divergence(expected, found):
    """Return the mean Kullback-Leibler divergence, in nats, of one's softmax from the other's; logits [images, labels].

    An image with non-finite logits counts as if its label had a probability of 1e-12.
    """
    import numpy as np

    def probabilities(logits):
        odds = np.exp(logits.astype(np.float64) - logits.max(1)[:, None])
        return np.maximum(odds / odds.sum(1)[:, None], _LEAST)

    with np.errstate(invalid="ignore"):
        actual, wanted = probabilities(found), probabilities(expected)
        each = (wanted * np.log(wanted / actual)).sum(1)
    return float(np.where(np.isfinite(each), each, -np.log(_LEAST)).mean())
