"""Golden images: they prove that a model on this machine gives the host's logits.

A backend can be installed, load a model and return wrong numbers without any error (OpenCV 4.1.1 does for some graphs), so
a runner is trusted only after this test.
"""

import hashlib
import math
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..bundle.manifest import PROJECTIONS, golden_schema
from ..bundle.open_bundle import Tolerance
from ..device.time_limit import within
from ..errors import BackendError, BundleError
from ..files.schema import JsonObject, SchemaError, parse_json
from ..images.preprocess import as_batch, preprocess
from ..images.read import decode_image
from ..runners.base import Outputs, close_quietly, joined, library_errors
from .decision import softmax

if TYPE_CHECKING:
    import numpy as np

    from ..bundle.open_bundle import Bundle, Model
    from ..runners.base import Runner

FILE = "golden/expected.json"
_LEAST = 1e-12
# For one image: an emulated Cortex-A57 takes five seconds, and a GPU that dropped off the bus never answers.
TIMEOUT_S = 60.0
# The label must match if the host's margin between its two best logits is larger than this many times the allowed mean
# difference: both logits differ, and one in a hundred logits is off by four times the mean.
_SURE = 8.0


class GoldenReport(NamedTuple):
    """The result of the golden images for a model on a backend.

    images          number of golden images
    labels_agree    number of images with the host's label
    labels_wrong    number of images with another label although the host's margin was clear
    largest_difference, mean_difference, divergence, features_difference    see bundle.open_bundle.Tolerance
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
    features_difference: Optional[float] = None

    @property
    def passed(self) -> bool:
        """True if no label is wrong and every difference is finite and within its tolerance."""
        return not self.labels_wrong and all(found <= limit for found, limit in self._differences())

    def _differences(self) -> Iterator[Tuple[float, float]]:
        yield self.largest_difference, self.tolerance.largest
        yield self.mean_difference, self.tolerance.mean
        yield self.divergence, self.tolerance.divergence
        if self.features_difference is not None and self.tolerance.features is not None:
            yield self.features_difference, self.tolerance.features

    def to_dict(self) -> Dict[str, object]:
        """Return the report as JSON can hold it: a difference that is not finite is None."""
        facts = dict(self._asdict(), tolerance=dict(self.tolerance._asdict()), passed=self.passed)
        for name in ("largest_difference", "mean_difference", "divergence", "features_difference"):
            facts[name] = facts[name] if facts[name] is not None and math.isfinite(facts[name]) else None
        return facts

    def differences(self) -> str:
        """Return the differences and their limits as text."""
        (largest, most), (mean, most_mean), (divergence, most_divergence), *features = self._differences()
        return (
            "logits differ by at most {:.2g} (limit {:.2g}) and on average {:.2g} ({:.2g}), probabilities by {:.2g} nats "
            "({:.2g})".format(largest, most, mean, most_mean, divergence, most_divergence)
            + "".join(", features on average by {:.2g} ({:.2g})".format(*pair) for pair in features)
        )

    def __str__(self) -> str:
        wrong = ", {} of the others clearly wrong".format(self.labels_wrong) if self.labels_wrong else ""
        return "{}: {} on {}: {} of {} golden labels agree{}, {}".format(
            "pass" if self.passed else "FAIL",
            self.model,
            self.backend,
            self.labels_agree,
            self.images,
            wrong,
            self.differences(),
        )


def golden_images(bundle: "Bundle") -> "List[np.ndarray]":
    """Return the bundle's golden images, decoded: BGR, uint8 [height, width, 3]."""
    files = [bundle.file(name) for name in read_golden(bundle)["images"]]
    return [decode_image(file.read(), file.path) for file in files]


def read_golden(bundle: "Bundle") -> JsonObject:
    """Return the names of the golden images ("images"), and by model the expected logits ("logits"), one row per image.

    For models with features, their projections are in "features"; see project().

    Raises BundleError if the file is damaged, or its labels are not the manifest's in the same order.
    """
    file = bundle.file(FILE)
    try:
        golden: JsonObject = parse_json(file.read())
        names = [model.name for model in bundle.models]
        featured = [model.name for model in bundle.models if model.features is not None]
        golden_schema(names, len(bundle.labels), featured)(golden, "")
    except SchemaError as error:
        raise BundleError("{}: {}; make the bundle again".format(file, error))
    for number, (label, other) in enumerate(zip(bundle.labels, golden.get("labels", bundle.labels))):
        if label != other:
            raise BundleError(
                "{}: label {} is {!a} in this file and {!a} in the manifest; make the bundle again".format(
                    file, number, other, label
                )
            )
    return golden


def check_golden(bundle: "Bundle", model: "Model", runner: "Runner", timeout_s: float = TIMEOUT_S) -> GoldenReport:
    """Run the bundle's golden images through a runner and compare the logits, and features, with the expected ones.

    timeout_s   for each image

    Raises BackendError if the runner fails or returns another shape, and Hung if it does not return in time: it is then
    closed as soon as it returns, and the caller must not close it.
    """
    import numpy as np

    golden = read_golden(bundle)
    expected = np.array(golden["logits"][model.name], np.float32)
    name = "{} on {}".format(model.name, runner.backend)

    def run(batch: "np.ndarray") -> Outputs:
        return Outputs(runner.infer(batch)) if model.features is None else runner.infer_outputs(batch)

    def infer(image: "np.ndarray") -> Outputs:
        batch = as_batch([preprocess(image, bundle.preprocessing)])
        with library_errors("{} failed".format(name)):
            found: Outputs = within(timeout_s, name, run, batch, late=lambda _: close_quietly(runner))
        check_logits(name, found.logits, (1, expected.shape[1]))
        if model.features is not None:
            check_features(name, found.features, (1, model.features))
        return found

    found = joined([infer(image) for image in golden_images(bundle)])
    report = compare_logits(model, runner.backend, expected, found.logits)
    if found.features is None:
        return report
    difference = np.abs(project(found.features) - np.array(golden["features"][model.name]))
    return report._replace(features_difference=float(difference.mean()))


def project(features: "np.ndarray") -> "np.ndarray":
    """Return PROJECTIONS numbers for each image's features, float64 [images, PROJECTIONS].

    Each is the sum of the features with fixed random signs, divided by the square root of their number, so that it differs from
    the host's about as much as a single feature does.  No other features have the same sums, except by chance, and a bundle
    stores 16 numbers in place of a thousand.
    """
    import numpy as np

    count = features.shape[1]
    # The same on every Python and NumPy; no secret depends on it.
    digits = hashlib.shake_128(b"edgeclf features").digest(count * PROJECTIONS // 8)
    bits = np.unpackbits(np.frombuffer(digits, np.uint8)).reshape(count, PROJECTIONS)
    projections: "np.ndarray" = features.astype(np.float64).dot(1.0 - 2.0 * bits) / math.sqrt(count)
    return projections


def check_logits(name: object, logits: Any, shape: Tuple[int, ...]) -> "np.ndarray":
    """Return logits if they are an array of numbers of a shape; otherwise raise BackendError, with what ``name`` returned."""
    return _check_array(name, "logits", logits, shape)


def check_features(name: object, features: Any, shape: Tuple[int, ...]) -> "np.ndarray":
    """Return features if they are an array of numbers of a shape, -1 for any size; see check_logits()."""
    return _check_array(name, "features", features, shape)


def _check_array(name: object, what: str, values: Any, shape: Tuple[int, ...]) -> "np.ndarray":
    found = getattr(values, "shape", None)
    if found is None or values.dtype.kind not in "fiu":
        raise BackendError(
            "{} returned {}; {} of shape {} were expected: make the bundle again".format(
                name, _kind(what, values), what, list(shape)
            )
        )
    if found != shape and (len(found) != len(shape) or any(want not in (-1, have) for have, want in zip(found, shape))):
        raise BackendError(
            "{} returned {} of shape {}; {} was expected: make the bundle again".format(
                name, what, list(found), list(shape)
            )
        )
    checked: "np.ndarray" = values
    return checked


def _kind(what: str, values: Any) -> str:
    return "no {}".format(what) if values is None else str(getattr(values, "dtype", type(values).__name__))


def compare_logits(model: "Model", backend: str, expected: "np.ndarray", found: "np.ndarray") -> GoldenReport:
    """Return the GoldenReport of a model's logits, float32 [images, labels], compared with the expected ones."""
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


def divergence(expected: "np.ndarray", found: "np.ndarray") -> float:
    """Return the mean Kullback-Leibler divergence, in nats, of the softmax of ``found`` from that of ``expected``.

    Both are logits, [images, labels].  An image with non-finite logits counts as if its label had a probability of 1e-12.
    """
    import numpy as np

    with np.errstate(invalid="ignore"):
        actual, wanted = (np.maximum(softmax(logits), _LEAST) for logits in (found, expected))
        each = (wanted * np.log(wanted / actual)).sum(1)
    return float(np.where(np.isfinite(each), each, -np.log(_LEAST)).mean())
