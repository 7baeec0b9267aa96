"""A classifier: image in, label and confidence out.

``classify/selection.py`` and ``classify/tuning`` choose its model and backend; when a backend fails, at once or after
months, the next one takes over (``classify/active_backend.py``).
"""

import copy
import logging
import os
import time
from typing import TYPE_CHECKING, Callable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..bundle.open_bundle import Bundle, open_bundle
from ..device import systemd
from ..errors import BackendError
from ..images.pixel_layouts import as_bgr
from ..images.preprocess import as_batch, preprocess, select
from ..images.read import read_image
from ..results import STAGES, Limits, NearImage, Result
from ..runners.base import PASSED, Runner, brief
from ..streaming.stream import stream
from .active_backend import Backends, Fallback, InUse
from .decision import Decider, Labels, allowed_indices
from .golden import check_features, check_logits
from .rejection import DISTANCE, Rejection, rejections_of
from .selection import OPEN_TIMEOUT_S, Selection, candidates, pair_name
from .tuning.choice import Choice, Tuning, choose

if TYPE_CHECKING:
    import numpy as np

    from ..capture.camera import Camera
    from ..images.preprocess import Preprocessing
    from ..results import StreamResult
    from ..streaming.smoothing import Smoother

# A file's path, or pixels.
Image = Union[str, "os.PathLike[str]", "np.ndarray"]
Roi = Sequence[float]
_log = logging.getLogger(__name__)


class Inferred(NamedTuple):
    """A model's output for a batch.

    logits      float32 [N, labels], all finite
    ms          duration of the inference in milliseconds
    by          the InUse that computed them; another may have taken over since
    features    float32 [N, features], all finite; None if no distance is computed from them
    """

    logits: "np.ndarray"
    ms: float
    by: InUse
    features: "Optional[np.ndarray]" = None


class Classifier:
    """A model on a backend, with the decision that turns its logits into a label.

    Use :meth:`open` for a bundle, inside ``with``.

    Several threads, and streams of several cameras, may use one Classifier at the same time; each stream needs its own
    Smoother.  If the backend is not ``concurrent``, their images are inferred one after another.  When a backend fails,
    whatever its library raises, one thread opens the next, the others wait for it, and all of them infer their images
    again with it.  A better backend that failed is tried again in the background after a minute, then less and less
    often.  After close(), everything else raises BackendError.

    runner          a Runner, closed together with the classifier
    labels          the labels, in the order of the logits
    preprocessing   the Preprocessing that turns an image into the model's input
    model           the model's name
    temperature     logits are divided by it before the softmax
    threshold       a confidence below it gives the label "unknown"
    top_k           number of labels that a result lists
    allow           return only these labels
    deny            never return these labels; the logits of labels that may not be returned are left out of the softmax,
                    so that their probabilities are 0 and the others sum to 1
    fallback        a Selection, whose next Model and Runner take over when the runner fails; as a property: None, or the
                    Fallback with the backend that failed, why and since when
    at_once         number of frames of a file that :meth:`stream` infers at the same time, if the runner is ``concurrent``
    bundle_id       the bundle's id, or ""; results contain its first digits
    rejections      the Rejection of each model by its name, for more than a common threshold; ``threshold`` is for a model
                    without one
    """

    def __init__(
        self,
        runner: Runner,
        labels: Sequence[str],
        preprocessing: "Preprocessing",
        model: str = "",
        temperature: float = 1.0,
        threshold: float = 0.0,
        top_k: int = 5,
        allow: Optional[Labels] = None,
        deny: Optional[Labels] = None,
        fallback: Optional[Selection] = None,
        at_once: int = 1,
        bundle_id: str = "",
        rejections: Optional[Mapping[str, Rejection]] = None,
    ) -> None:
        self.bundle_id = bundle_id
        rejections = rejections or {}
        first = InUse(runner, model, temperature, rejections.get(model, Rejection(threshold)))
        self._backends = Backends(first, fallback, rejections)
        self.labels = tuple(labels)
        self.preprocessing = preprocessing
        self._decider = Decider(self.labels, top_k, allow, deny)
        self._rejections: Mapping[str, Rejection] = {}  # in place of those of the backends
        self._at_once = at_once

    @classmethod
    def open(
        cls,
        bundle: Union[str, "os.PathLike[str]", Bundle],
        model: Optional[str] = None,
        backend: str = "auto",
        top_k: int = 5,
        threshold: Optional[float] = None,
        allow: Optional[Labels] = None,
        deny: Optional[Labels] = None,
        threads: Optional[int] = None,
        tune: Optional[bool] = False,
        at_once: int = 1,
        show_tuning: Optional[Callable[[Tuning], object]] = None,
        choice: Optional[Choice] = None,
        most_distance: Optional[float] = None,
    ) -> "Classifier":
        """Verify a bundle and load the first of its models that runs here and passes the golden images.

        bundle      a path, or an open Bundle
        model       name of one of its models; None tries all: the fastest first if they were measured on this device,
                    otherwise in the manifest's order
        backend     name of a backend, or "auto"
        threshold   confidence below which the label is "unknown", whichever it is; None: the manifest's
        allow, deny see the class
        threads     number of threads for the backend; None: as measured on this device, or as the backend decides
        tune        True: measure the models and backends that run here first, in seconds, and remember it for this device
                    and bundle; None: only if that is not remembered yet, as ``run`` does; False: use what is remembered
        at_once     see the class; they share the threads
        show_tuning called with the measurements of ``tune``, a Tuning
        choice      what ``choose()`` of classify/tuning/choice.py returned; None: it is called here
        most_distance   distance from the training images above which the label is "unknown"; None: the manifest's

        Raises BundleError, OptionError for an unknown label or backend, or BackendError with each reason if nothing runs.
        """
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        # Before seconds are spent on a backend.
        allowed_indices(opened.labels, allow, deny)
        if choice is None:
            choice = choose(opened, candidates(opened, model, backend), threads, at_once, tune, show_tuning)
        rejections = rejections_of(opened, [candidate for candidate, _ in choice.pairs], threshold, most_distance)
        selection = Selection(opened, choice.pairs, threads, at_once, choice.measured, choice.ways)
        start = time.perf_counter()
        with systemd.busy(OPEN_TIMEOUT_S, "opening a model"):
            chosen, runner = selection.open_next()
        what = pair_name(chosen, runner.backend)
        _log.info("%s of %s opened in %.0f ms, golden images included", what, opened.name, _ms_since(start))
        limits = (chosen.temperature, chosen.threshold, top_k, allow, deny)
        settings = (opened.labels, opened.preprocessing, chosen.name, *limits, selection, at_once, opened.id)
        return cls(runner, *settings, rejections)

    @property
    def in_use(self) -> InUse:
        """The InUse: runner, model, temperature and threshold.  Another one may follow at any time."""
        return self._backends.in_use

    @property
    def fallback(self) -> Optional[Fallback]:
        """None while the best backend that was found here is in use, else the latest Fallback."""
        return self._backends.fallback

    @property
    def runner(self) -> Runner:
        """The Runner in use."""
        return self.in_use.runner

    @property
    def model(self) -> str:
        """The name of the model in use."""
        return self.in_use.model

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self.runner.backend

    @property
    def at_once(self) -> int:
        """The number of images that may now be inferred at the same time."""
        runner = self.runner
        return min(self._at_once, runner.at_once or self._at_once) if runner.concurrent else 1

    def classify(self, image: Image, roi: Optional[Roi] = None, rotation: int = 0, order: str = "bgr") -> Result:
        """Classify one image: a file's path, or pixels as a numpy array of uint8.

        image       a path, or an array [height, width, 3]; also gray, [height, width] or [height, width, 1], and
                    [height, width, 4], whose fourth channel is dropped
        order       of an array's channels: "bgr", as OpenCV reads them, or "rgb", as Pillow does
        rotation    0, 90, 180 or 270 degrees clockwise, applied first
        roi         the region to classify, (x, y, width, height) of the rotated image: in pixels if all four are integers,
                    as fractions from 0 to 1 if any of them is a float

        Raises ImageError, OptionError, or BackendError if no backend works any more.
        """
        self._backends.check_open()
        image = _pixels(image, order)
        start = time.perf_counter()
        batch = self.prepare(image, roi, rotation)
        preprocess_ms = _ms_since(start)
        return self.answer(self.infer(batch), preprocess_ms)

    def classify_batch(self, images: Sequence[Image], order: str = "bgr") -> List[Result]:
        """Classify several images in one inference.  Memory use grows with their number.

        images, order   as for :meth:`classify`
        """
        self._backends.check_open()
        pixels = [_pixels(image, order) for image in images]
        if not pixels:
            return []
        start = time.perf_counter()
        batch = as_batch([preprocess(image, self.preprocessing) for image in pixels])
        preprocess_ms = _ms_since(start) / len(batch)
        return self._answer(self.infer(batch), preprocess_ms)

    def stream(
        self, camera: "Camera", smoother: "Optional[Smoother]" = None, roi: Optional[Roi] = None, rotation: int = 0
    ) -> "Iterator[StreamResult]":
        """Yield a StreamResult for each frame of a Camera, until it ends; see ``streaming/stream.py``."""
        self._backends.check_open()
        return stream(self, camera, smoother, roi, rotation)

    def prepare(self, image: Image, roi: Optional[Roi] = None, rotation: int = 0, order: str = "bgr") -> "np.ndarray":
        """Return the model's input for one image, float32 [1, height, width, 3]; arguments as for :meth:`classify`.

        :meth:`prepare`, :meth:`infer` and :meth:`answer` may run in different threads.
        """
        self._backends.check_open()
        pixels = _pixels(image, order)
        if rotation or roi is not None:
            pixels = select(pixels, roi, rotation)
        batch: "np.ndarray" = as_batch([preprocess(pixels, self.preprocessing)])
        return batch

    def infer(self, batch: "np.ndarray") -> Inferred:
        """Return the model's output for a batch of :meth:`prepare`; raises BackendError if no backend works any more."""
        while True:
            by = self._backends.enter()
            try:
                return self._infer_with(by, batch)
            except BackendError as error:
                failure = error
            finally:
                self._backends.leave(by)
            self._backends.replace(by, failure)

    def _infer_with(self, by: InUse, batch: "np.ndarray") -> Inferred:
        import numpy as np

        start = time.perf_counter()
        features, known = None, by.rejection.known
        try:
            if known is not None:
                found, features = by.runner.infer_outputs(batch)
            else:
                found = by.runner.infer(batch)
            logits = check_logits(by, found, (len(batch), len(self.labels)))
            if features is not None and known is not None:
                check_features(by, features, (len(batch), known.features))
        except PASSED:
            raise
        except BaseException as error:
            raise BackendError("{} failed: {}".format(by, brief(error)))
        for what, values in (("logits", logits), ("features", features)):
            if values is not None and not np.isfinite(values).all():
                raise BackendError("{} produced non-finite {}; use another model with --model".format(by, what))
        return Inferred(logits, _ms_since(start), by, features)

    def answer(self, inferred: Inferred, preprocess_ms: float = 0.0) -> Result:
        """Return the Result for one image's Inferred.

        preprocess_ms   duration of prepare(), for the result's timings
        """
        return self._answer(inferred, preprocess_ms)[0]

    def _answer(self, inferred: Inferred, preprocess_ms: float) -> List[Result]:
        start = time.perf_counter()
        logits, ms, (runner, model, temperature, rejection), features = inferred
        rejection = self._rejections.get(model, rejection)
        confidences = self._decider.confidences(logits, temperature)
        distances = rejection.distances(features, logits)
        decisions = [
            self._decider.decide(row, int(row.argmax()), rejection, distance)
            for row, distance in zip(confidences, distances)
        ]
        nearest = [
            self._nearest(rejection, features[i]) if features is not None and decision.reason == DISTANCE else ()
            for i, decision in enumerate(decisions)
        ]
        stages_ms = (preprocess_ms, ms / len(logits), _ms_since(start) / len(logits))
        return [
            Result(
                timings_ms=dict(zip(STAGES, stages_ms)),
                model=model,
                backend=runner.backend,
                confidences=row,
                distance=distance,
                nearest=near,
                **decision._asdict(),
            )
            for decision, row, distance, near in zip(decisions, confidences, distances, nearest)
        ]

    def _nearest(self, rejection: Rejection, features: "np.ndarray") -> Tuple[NearImage, ...]:
        return tuple(NearImage(self.labels[one.label], one.image) for one in rejection.nearest(features))

    def decide(self, result: Result, confidences: "np.ndarray", index: int, distance: Optional[float] = None) -> Result:
        """Return a Result with other confidences, float [labels], such as smoothed ones, and the index of their label.

        distance    another distance, such as a smoothed one; None: the result's
        """
        distance = result.distance if distance is None else distance
        decision = self._decider.decide(confidences, index, self._rejection(result.model), distance)
        nearest = result.nearest if decision.reason == DISTANCE else ()
        return result._replace(confidences=confidences, distance=distance, nearest=nearest, **decision._asdict())

    def limits(self, model: str) -> Limits:
        """Return the Limits with which the results of a model, by its name, are compared."""
        return self._rejection(model).limits(self.labels)

    def _rejection(self, model: str) -> Rejection:
        return self._rejections.get(model) or self._backends.rejection(model)

    def deciding(
        self,
        bundle: Bundle,
        top_k: int = 5,
        threshold: Optional[float] = None,
        allow: Optional[Labels] = None,
        deny: Optional[Labels] = None,
        most_distance: Optional[float] = None,
    ) -> "Classifier":
        """Return a Classifier that infers with this one, and decides with thresholds and labels of its own.

        bundle      the Bundle that this one was opened from; other arguments as for :meth:`open`

        It is closed together with this one.
        """
        other = copy.copy(self)
        other._decider = Decider(self.labels, top_k, allow, deny)
        other._rejections = rejections_of(bundle, bundle.models, threshold, most_distance)
        return other

    def close(self) -> None:
        """Free the backend; waits up to half a second for inferences under way; a second call does nothing.

        Threads that are classifying get their result, or a BackendError that says so.
        """
        self._backends.close()

    def __enter__(self) -> "Classifier":
        self._backends.check_open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


def _pixels(image: Image, order: str) -> "np.ndarray":
    pixels: "np.ndarray" = read_image(image) if isinstance(image, (str, os.PathLike)) else as_bgr(image, order)
    return pixels
