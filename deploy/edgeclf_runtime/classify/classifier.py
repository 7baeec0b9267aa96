"""A classifier: image in, label and confidence out.

What it runs on is chosen by ``classify/selection.py`` and ``classify/tuning.py``; when a backend fails, at once or
after months, the next one takes over (``classify/active_backend.py``).  Knows nothing of cameras.
"""

import logging
import os
import time
from typing import Any, NamedTuple

from ..bundle.open import Bundle, open_bundle
from ..device import systemd
from ..errors import BackendError
from ..images.layouts import as_bgr
from ..images.preprocess import as_batch, preprocess, select
from ..images.read import read_image
from ..results import STAGES, Result
from ..runners.base import PASSED, brief
from ..streaming.stream import stream
from . import tuning
from .active_backend import Backends, InUse
from .decision import Decider, allowed_places
from .golden import check_logits
from .selection import OPEN_TIMEOUT_S, Selection, candidates, pair_name

_log = logging.getLogger(__name__)


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

    Several threads, and streams of several cameras, may use one Classifier at the same time; each stream has a
    Smoother of its own.  Where the backend is not ``concurrent`` their images are inferred one after another.  When a
    backend fails, whatever its library raises, one thread opens the next, the others wait for it, and all of them
    infer their images again with that.  A better backend that failed is tried again in the background after a minute,
    then ever less often.  Once close() was called, everything else raises BackendError.

    runner          a Runner, closed together with the classifier
    labels          the names of the classes, in the order of the logits
    preprocessing   how an image becomes the model's input
    model           the model's name
    temperature     logits are divided by it before the softmax
    threshold       a confidence below it gives the label "unknown"
    top_k           how many labels a result lists
    allow, deny     labels that alone may be answered, that never are: the logits of the others are
                    left out of the softmax, so that their probabilities are 0 and the rest sum to 1
    fallback        a Selection, whose next Model and Runner take over when the runner fails; afterwards the
                    property: None, or the Fallback that tells which backend failed, why and since when
    at_once         how many frames of a file :meth:`stream` infers at the same time, where the runner is ``concurrent``
    bundle_id       the bundle's id, or "": results carry the first digits of it
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
        bundle_id="",
    ):
        self.bundle_id = bundle_id
        self._backends = Backends(InUse(runner, model, temperature, threshold), fallback)
        self.labels = tuple(labels)
        self.preprocessing = preprocessing
        self._decider = Decider(self.labels, top_k, allow, deny)
        self._at_once = at_once

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
        show_tuning=None,
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
        show_tuning called with what ``tune`` measured, a tuning.Tuning

        Raises BundleError, EdgeclfError where a label is not the bundle's, or BackendError with each
        reason where nothing runs.
        """
        if not isinstance(bundle, Bundle):
            bundle = open_bundle(bundle)
        # Mistakes show before seconds are spent on a backend.
        allowed_places(bundle.labels, allow, deny)
        usual = candidates(bundle, model, backend)
        pairs = tuning.tune(bundle, usual, threads, show_tuning) if tune else tuning.recall(bundle, usual, threads)
        measured = pairs is not usual
        if threshold is not None:
            pairs = [(candidate._replace(threshold=threshold), name) for candidate, name in pairs]
        selection = Selection(bundle, pairs, threads, at_once, measured)
        start = time.perf_counter()
        with systemd.busy(OPEN_TIMEOUT_S, "opening a model"):
            chosen, runner = selection.open_next()
        what = pair_name(chosen, runner.backend)
        _log.info("%s of %s opened in %.0f ms, golden images included", what, bundle.name, _ms_since(start))
        limits = (chosen.temperature, chosen.threshold, top_k, allow, deny)
        return cls(runner, bundle.labels, bundle.preprocessing, chosen.name, *limits, selection, at_once, bundle.id)

    @property
    def in_use(self):
        """The InUse: runner, model, temperature and threshold.  Another one may follow at any time."""
        return self._backends.in_use

    @property
    def fallback(self):
        """None while the best backend that was found here is in use, else the newest Fallback."""
        return self._backends.fallback

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

    def classify(self, image, roi=None, rotation=0, order="bgr"):
        """Classify one image: a file's path, or pixels as a numpy array of uint8.

        image       a path, or an array [height, width, 3]; grey [height, width] and [height, width, 1] too, and
                    [height, width, 4], whose fourth channel is dropped
        order       of an array's channels: "bgr", as OpenCV reads them, or "rgb", as Pillow does
        rotation    0, 90, 180 or 270 degrees clockwise, applied first
        roi         the region to look at, (x, y, width, height) of the turned image: pixels where all
                    four are whole numbers, shares from 0 to 1 where any of them is a float

        Returns a Result.  Raises ImageError, or BackendError where no backend is left that works.
        """
        self._backends.check_open()
        image = _pixels(image, order)
        start = time.perf_counter()
        batch = self.prepare(image, roi, rotation)
        preprocess_ms = _ms_since(start)
        return self.answer(self.infer(batch), preprocess_ms)

    def classify_batch(self, images, order="bgr"):
        """Classify several images by one inference; returns a list of Results.  The memory grows with their number.

        images, order   as :meth:`classify` takes them
        """
        self._backends.check_open()
        images = [_pixels(image, order) for image in images]
        if not images:
            return []
        start = time.perf_counter()
        batch = as_batch([preprocess(image, self.preprocessing) for image in images])
        preprocess_ms = _ms_since(start) / len(batch)
        return self._answer(self.infer(batch), preprocess_ms)

    def stream(self, camera, smoother=None, roi=None, rotation=0):
        """Yield a StreamResult for each frame of a Camera, until it ends; see ``streaming/stream.py``."""
        self._backends.check_open()
        return stream(self, camera, smoother, roi, rotation)

    def prepare(self, image, roi=None, rotation=0, order="bgr"):
        """Return the model's input of one image, float32 [1, height, width, 3]; arguments as :meth:`classify`.

        May run in another thread than :meth:`infer`, and that in another than :meth:`answer`.
        """
        self._backends.check_open()
        image = _pixels(image, order)
        if rotation or roi is not None:
            image = select(image, roi, rotation)
        return as_batch([preprocess(image, self.preprocessing)])

    def infer(self, batch):
        """Return the Inferred of what :meth:`prepare` returned; raises BackendError where no backend is left that works."""
        while True:
            by = self._backends.enter()
            try:
                return self._infer_with(by, batch)
            except BackendError as error:
                failure = error
            finally:
                self._backends.leave(by)
            self._backends.replace(by, failure)

    def _infer_with(self, by, batch):
        import numpy as np

        start = time.perf_counter()
        try:
            logits = check_logits(by, by.runner.infer(batch), (len(batch), len(self.labels)))
        except PASSED:
            raise
        except BaseException as error:
            raise BackendError("{} failed: {}".format(by, brief(error)))
        if not np.isfinite(logits).all():
            raise BackendError(
                "{} answered with numbers that are not finite; use another model with --model".format(by)
            )
        return Inferred(logits, _ms_since(start), by)

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
            Result(
                timings_ms=dict(zip(STAGES, stages_ms)),
                model=model,
                backend=runner.backend,
                confidences=row,
                **decision._asdict(),
            )
            for decision, row in zip(decisions, confidences)
        ]

    def decide(self, result, confidences, place):
        """Return a Result with other confidences, say smoothed ones, float [labels], and the place of the label chosen."""
        decision = self._decider.decide(confidences, place, self._backends.threshold(result.model))
        return result._replace(confidences=confidences, **decision._asdict())

    def close(self):
        """Free the backend, after what it infers now, for which it waits half a second; a second call does nothing.

        Threads that classify meanwhile get their result, or a BackendError that says so.
        """
        self._backends.close()

    def __enter__(self):
        self._backends.check_open()
        return self

    def __exit__(self, *exception):
        self.close()


def _ms_since(start):
    return (time.perf_counter() - start) * 1e3


def _pixels(image, order):
    return read_image(image) if isinstance(image, (str, os.PathLike)) else as_bgr(image, order)
