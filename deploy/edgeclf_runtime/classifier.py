"""A classifier: image in, label and confidence out.

What it runs on is chosen by ``selection.py`` and ``tuning.py``; when a backend fails, at once or
after months, the next one takes over.  Knows nothing of cameras.
"""

import logging
import threading
import time
from typing import Any, NamedTuple

from . import tuning
from .bundle import Bundle, open_bundle
from .decision import Decider, allowed_places
from .errors import BackendError
from .images import read_image
from .preprocess import as_batch, preprocess, select
from .result import STAGES, Result
from .selection import Selection, candidates
from .stream import stream

_log = logging.getLogger(__name__)
_CLOSE_S = 0.5


class InUse(NamedTuple):
    """The model that infers, and what its logits mean; see Classifier."""

    runner: Any
    model: str
    temperature: float
    threshold: float


class Inferred(NamedTuple):
    """What a model gave for a batch.

    logits      float32 [N, labels], all finite
    ms          what the inference took
    by          the InUse that gave them: another may have taken over since
    """

    logits: Any
    ms: float
    by: InUse


class Classifier:
    """A model that was opened on this machine, and what turns its logits into a label.

    Use :meth:`open` for a bundle, inside ``with``.

    runner          a Runner, closed together with the classifier
    labels          the names of the classes, in the order of the logits
    preprocessing   how an image becomes the model's input
    model           the model's name
    temperature     logits are divided by it before the softmax
    threshold       a confidence below it gives the label "unknown"
    top_k           how many labels a result lists
    allow, deny     labels that alone may be answered, that never are: the logits of the others are
                    left out of the softmax, so that their probabilities are 0 and the rest sum to 1
    fallback        a Selection, whose next Model and Runner take over when the runner fails
    at_once         how many frames of a file :meth:`stream` infers at the same time, where the runner is ``concurrent``
    """

    def __init__(
        self,
        runner,
        labels,
        preprocessing,
        model="",
        temperature=1.0,
        threshold=0.0,
        top_k=5,
        allow=None,
        deny=None,
        fallback=None,
        at_once=1,
    ):
        self.in_use = InUse(runner, model, temperature, threshold)
        self.labels = tuple(labels)
        self.preprocessing = preprocessing
        self._decider = Decider(self.labels, top_k, allow, deny)
        self._fallback = fallback
        self._at_once = at_once
        self._one = threading.Lock()
        self._replacing = threading.Lock()

    @classmethod
    def open(
        cls,
        bundle,
        model=None,
        backend="auto",
        top_k=5,
        threshold=None,
        allow=None,
        deny=None,
        threads=None,
        tune=False,
        at_once=1,
    ):
        """Verify a bundle and load the first of its models that runs here and passes the golden images.

        bundle      a path, or a Bundle that was opened before
        model       the name of one of its models; None tries all: what was measured to be fastest on
                    this device where that was done, else in the manifest's order
        backend     the name of a backend, or "auto"
        threshold   confidence below which the label is "unknown"; None takes the manifest's
        allow, deny see the class
        threads     threads of the backend; None leaves the choice to it
        tune        measure what runs here first (seconds), and remember it for this device and bundle
        at_once     see the class; they share the threads

        Raises BundleError, EdgeclfError where a label is not the bundle's, or BackendError with each
        reason where nothing runs.
        """
        if not isinstance(bundle, Bundle):
            bundle = open_bundle(bundle)
        # Mistakes show before seconds are spent on a backend.
        allowed_places(bundle.labels, allow, deny)
        pairs = candidates(bundle, model, backend)
        pairs = tuning.tune(bundle, pairs, threads) if tune else tuning.recall(bundle, pairs, threads)
        if threshold is not None:
            pairs = [(candidate._replace(threshold=threshold), name) for candidate, name in pairs]
        selection = Selection(bundle, pairs, threads, at_once)
        chosen, runner = selection.open_next()
        limits = (chosen.temperature, chosen.threshold, top_k, allow, deny)
        return cls(runner, bundle.labels, bundle.preprocessing, chosen.name, *limits, selection, at_once)

    @property
    def runner(self):
        """The Runner in use."""
        return self.in_use.runner

    @property
    def model(self):
        """The name of the model in use."""
        return self.in_use.model

    @property
    def backend(self):
        """The name of the backend in use."""
        return self.runner.backend

    @property
    def at_once(self):
        """How many images may be inferred at the same time now."""
        return self._at_once if self.runner.concurrent else 1

    def classify(self, image, roi=None, rotation=0):
        """Classify one image: a file's path, or BGR pixels as uint8 [height, width, 3].

        rotation    0, 90, 180 or 270 degrees clockwise, applied first
        roi         the region to look at, (x, y, width, height) of the turned image: pixels where all
                    four are whole numbers, shares from 0 to 1 where any of them is a float

        Returns a Result.  Raises ImageError, or BackendError where no backend is left that works.
        """
        image = _pixels(image)
        start = time.perf_counter()
        batch = self.prepare(image, roi, rotation)
        preprocess_ms = _ms_since(start)
        return self.answer(self.infer(batch), preprocess_ms)

    def classify_batch(self, images):
        """Classify several images by one inference; returns a list of Results.  The memory grows with their number."""
        images = [_pixels(image) for image in images]
        if not images:
            return []
        start = time.perf_counter()
        batch = as_batch([preprocess(image, self.preprocessing) for image in images])
        preprocess_ms = _ms_since(start) / len(batch)
        return self._answer(self.infer(batch), preprocess_ms)

    def stream(self, camera, smoother=None, roi=None, rotation=0):
        """Yield a StreamResult for each frame of a Camera, until it ends; see ``stream.py``."""
        return stream(self, camera, smoother, roi, rotation)

    def prepare(self, image, roi=None, rotation=0):
        """Return the model's input of one image, float32 [1, height, width, 3]; arguments as :meth:`classify`.

        May run in another thread than :meth:`infer`, and that in another than :meth:`answer`.
        """
        image = _pixels(image)
        if rotation or roi is not None:
            image = select(image, roi, rotation)
        return as_batch([preprocess(image, self.preprocessing)])

    def infer(self, batch):
        """Return the Inferred of what :meth:`prepare` returned; raises BackendError where no backend is left that works."""
        import numpy as np

        while True:
            by = self.in_use
            start = time.perf_counter()
            try:
                logits = self._infer_once(by.runner, batch)
                if np.isfinite(logits).all():
                    return Inferred(logits, _ms_since(start), by)
                raise BackendError(
                    "{} on {} answered with numbers that are not finite; use another model with --model".format(
                        by.model, by.runner.backend
                    )
                )
            except BackendError as error:
                with self._replacing:
                    # What failed may be replaced already, by a thread that saw it fail too.
                    if by is self.in_use:
                        self._fall_back(error)

    def answer(self, inferred, preprocess_ms=0.0):
        """Return the Result of one image's Inferred.

        preprocess_ms   what prepare() took, for the result's timings
        """
        return self._answer(inferred, preprocess_ms)[0]

    def _answer(self, inferred, preprocess_ms):
        start = time.perf_counter()
        logits, ms, (runner, model, temperature, threshold) = inferred
        confidences = self._decider.confidences(logits, temperature)
        decisions = [self._decider.decide(row, int(row.argmax()), threshold) for row in confidences]
        stages_ms = (preprocess_ms, ms / len(logits), _ms_since(start) / len(logits))
        return [
            Result(label, confidence, top, dict(zip(STAGES, stages_ms)), model, runner.backend, row)
            for (label, confidence, top), row in zip(decisions, confidences)
        ]

    def decide(self, result, confidences, place):
        """Return a Result with other confidences, say smoothed ones, float [labels], and the place of the label chosen."""
        label, confidence, top = self._decider.decide(confidences, place, self.in_use.threshold)
        return result._replace(label=label, confidence=confidence, top=top, confidences=confidences)

    def _infer_once(self, runner, batch):
        if runner.concurrent:
            return runner.infer(batch)
        with self._one:
            return runner.infer(batch)

    def _fall_back(self, error):
        """Let the next model and backend take over; raise BackendError, and keep the present one, where none is left."""
        if self._fallback is None:
            raise error
        try:
            model, runner = self._fallback.open_next()
        except BackendError as none_left:
            raise BackendError("{}\n{}".format(error, none_left))
        _log.error("%s on %s is replaced by %s on %s: %s", self.model, self.backend, model.name, runner.backend, error)
        failed = self.runner
        self.in_use = InUse(runner, model.name, model.temperature, model.threshold)
        failed.close()

    def close(self):
        """Free the backend, after what it infers now; a backend that can infer several at once sees to that itself.

        One that hangs is left as it is: freeing what it uses would crash.
        """
        if self._one.acquire(timeout=_CLOSE_S):
            try:
                self.runner.close()
            finally:
                self._one.release()
        else:
            _log.warning("%s on %s is not closed: an inference does not return", self.model, self.backend)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def _ms_since(start):
    return (time.perf_counter() - start) * 1e3


def _pixels(image):
    return image if hasattr(image, "shape") else read_image(image)
