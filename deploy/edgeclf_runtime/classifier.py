"""A bundle's classifier: image in, label and confidence out.

Chooses the model and the backend: they are tried in the manifest's order for this machine, and
one that is missing, or fails the golden images, is passed over with its reason in the log.
"""

import logging
import os
import platform
import time
from typing import Any, Dict, List, NamedTuple, Tuple

from .bundle import Bundle, open_bundle
from .errors import BackendError, EdgeclfError
from .golden import check_golden
from .images import read_image
from .preprocess import as_batch, preprocess
from .runners import open_runner

UNKNOWN = "unknown"
_log = logging.getLogger(__name__)


class Result(NamedTuple):
    """One classified image.

    label           the most likely label, or "unknown" where its confidence is below the threshold
    confidence      the softmax probability of the most likely label, 0 to 1
    top             the most likely labels with their confidences, best first
    timings_ms      milliseconds by stage: preprocess, inference, postprocess
    model, backend  what was actually used
    """

    label: str
    confidence: float
    top: List[Tuple[str, float]]
    timings_ms: Dict[str, float]
    model: str
    backend: str

    def to_dict(self) -> Dict[str, Any]:
        """The result as JSON can hold it."""
        return {
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "top": [{"label": label, "confidence": round(confidence, 6)} for label, confidence in self.top],
            "timings_ms": {stage: round(value, 3) for stage, value in self.timings_ms.items()},
            "model": self.model,
            "backend": self.backend,
        }


class Classifier:
    """A model that was opened on this machine, and what turns its logits into a label.

    Use :meth:`open` for a bundle, inside ``with``.

    runner          a Runner, closed together with the classifier
    labels          the names of the classes, in the order of the logits
    preprocessing   how an image becomes the model's input
    temperature     logits are divided by it before the softmax
    threshold       a confidence below it gives the label "unknown"
    """

    def __init__(self, runner, labels, preprocessing, model="", temperature=1.0, threshold=0.0, top_k=5):
        self.runner = runner
        self.labels = tuple(labels)
        self.preprocessing = preprocessing
        self.model = model
        self.temperature = temperature
        self.threshold = threshold
        self.top_k = min(top_k, len(self.labels))

    @classmethod
    def open(cls, bundle, model=None, backend="auto", top_k=5, threshold=None, threads=None):
        """Verify a bundle and load the first of its models that runs here and passes the golden images.

        bundle      a path, or a Bundle that was opened before
        model       the name of one of its models; None tries all in the manifest's order
        backend     the name of a backend, or "auto"
        threshold   confidence below which the label is "unknown"; None takes the manifest's
        threads     threads of the backend; None leaves the choice to it

        Raises BundleError, or BackendError with each reason where nothing runs.
        """
        if not isinstance(bundle, Bundle):
            bundle = open_bundle(bundle)
        chosen, runner = _open_first(bundle, candidates(bundle, model, backend), threads)
        if threshold is None:
            threshold = chosen.threshold
        return cls(runner, bundle.labels, bundle.preprocessing, chosen.name, chosen.temperature, threshold, top_k)

    def classify(self, image):
        """Classify one image: a file's path, or BGR pixels as uint8 [height, width, 3].

        Returns a Result.  Raises ImageError, or BackendError.
        """
        import numpy as np

        if not hasattr(image, "shape"):
            image = read_image(image)
        start = time.perf_counter()
        batch = as_batch([preprocess(image, self.preprocessing)])
        ready = time.perf_counter()
        logits = self.runner.infer(batch)[0]
        inferred = time.perf_counter()
        if not np.isfinite(logits).all():
            raise BackendError(
                "{} on {} answered with numbers that are not finite; use another model with --model".format(
                    self.model, self.runner.backend
                )
            )
        confidences = softmax(logits / self.temperature)
        best = (-confidences).argsort(kind="stable")[: self.top_k]
        top = [(self.labels[i], float(confidences[i])) for i in best]
        done = time.perf_counter()
        return Result(
            label=top[0][0] if top[0][1] >= self.threshold else UNKNOWN,
            confidence=top[0][1],
            top=top,
            timings_ms={
                "preprocess": (ready - start) * 1e3,
                "inference": (inferred - ready) * 1e3,
                "postprocess": (done - inferred) * 1e3,
            },
            model=self.model,
            backend=self.runner.backend,
        )

    def close(self):
        """Free the backend."""
        self.runner.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def softmax(logits):
    """Return the softmax over the last axis, float64, of logits of any shape."""
    import numpy as np

    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def candidates(bundle, model=None, backend="auto"):
    """Return the (Model, backend) pairs to try on this machine, best first.

    Raises BackendError where the bundle has no model for the backend that is asked for.
    """
    models = [bundle.model(model)] if model else bundle.in_order(platform.machine())
    pairs = [(m, b) for m in models for b in m.backends if backend in ("auto", b)]
    if not pairs:
        offered = sorted({b for m in models for b in m.backends})
        raise BackendError(
            "no model here runs on the backend {!r}; use --backend {}".format(backend, " or ".join(offered))
        )
    return pairs


def _open_first(bundle, pairs, threads):
    passed_over: Dict[str, List[str]] = {}
    for model, backend in pairs:
        try:
            runner = _open_proven(bundle, model, backend, threads)
        except EdgeclfError as error:
            passed_over.setdefault(str(error), []).append("{} on {}".format(model.name, backend))
            continue
        for reason, names in passed_over.items():
            _log.warning("passed over %s: %s", ", ".join(names), reason)
        return model, runner
    raise BackendError(
        "no model of {} runs on this machine:\n  {}".format(
            os.path.basename(bundle.path),
            "\n  ".join("{}: {}".format(", ".join(names), reason) for reason, names in passed_over.items()),
        )
    )


def _open_proven(bundle, model, backend, threads):
    runner = open_runner(backend, bundle.file(model.file), threads)
    try:
        report = check_golden(bundle, model, runner)
        if not report.passed:
            raise BackendError(str(report))
    except BaseException:
        runner.close()
        raise
    return runner
