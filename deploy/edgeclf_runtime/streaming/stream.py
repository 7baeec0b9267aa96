"""Classifies a camera's frames one after another until it ends; reports losses, and waits until the camera is back."""

import time
from typing import TYPE_CHECKING, Generator, Iterator, Optional, Sequence, Union

from ..capture.camera import seconds_of
from ..errors import CameraLost, EndOfStream
from ..images.frame import Frame
from ..results import NOWHERE, Origin, Result, StreamEvent, StreamResult, find_origin
from .overlap import Ahead
from .prefetch import Prefetch

if TYPE_CHECKING:
    import numpy as np

    from ..capture.camera import Camera
    from ..classify.active_backend import Fallback
    from ..classify.classifier import Classifier
    from .health.watch import Health
    from .motion import MotionGate
    from .smoothing import Smoother

IDLE_S = 0.5


def stream(
    classifier: "Classifier",
    camera: "Camera",
    smoother: "Optional[Smoother]" = None,
    roi: Optional[Sequence[float]] = None,
    rotation: int = 0,
) -> Iterator[StreamResult]:
    """Yield a StreamResult for each frame of the camera, until it ends; see :func:`follow`."""
    for item in follow(classifier, camera, smoother, roi, rotation):
        if isinstance(item, StreamResult):
            yield item


def follow(
    classifier: "Classifier",
    camera: "Camera",
    smoother: "Optional[Smoother]" = None,
    roi: Optional[Sequence[float]] = None,
    rotation: int = 0,
    origin: Optional[Origin] = None,
    health: "Optional[Health]" = None,
    motion: "Optional[MotionGate]" = None,
) -> "Generator[Union[StreamResult, StreamEvent, None], None, None]":
    """Yield the results and events of a camera's stream, until it ends.

    smoother    a Smoother, or None for each frame's own label; it starts over when the camera was lost
    roi, rotation   as for ``Classifier.classify``
    origin      the results' Origin; None: made here, with the device's name from the environment variable
                EDGECLF_DEVICE_NAME
    health      a Health that watches the stream, or None
    motion      a MotionGate, which leaves out frames in which nothing moves, or None

    Yields a StreamResult for each frame; a StreamEvent when the camera is lost, when it is back, before the first
    frame of another backend, and when the health changes; and None every IDLE_S without a frame, so that a loop around it stays alive.
    """
    lost_at = fallback = None
    mode = ""
    reported = False  # what an earlier run found is reported again
    origin = origin or find_origin(classifier.bundle_id, camera.name)
    with _open_stages(classifier, camera, roi, rotation, health, motion) as stages:
        while True:
            try:
                ready = stages.get(IDLE_S)
            except EndOfStream:
                return
            except CameraLost as lost:
                lost_at = time.monotonic()
                if smoother:
                    smoother.reset()
                yield StreamEvent("lost", str(lost), time.time(), origin)
                continue
            if ready is None:
                yield None
                continue
            back = lost_at is not None
            again = back and fallback is not None  # "degraded" is reported again after "live"
            if lost_at is not None:
                reason = "back after {:.1f} s".format(time.monotonic() - lost_at)
                yield StreamEvent("live", ": ".join(filter(None, (reason, camera.mode))), time.time(), origin)
                lost_at, mode = None, camera.mode
            elif camera.mode != mode:
                mode = camera.mode
                yield StreamEvent("live", mode, time.time(), origin)
            if again or fallback is not classifier.fallback:
                fallback = classifier.fallback
                yield _backend_event(classifier, fallback, origin)
            single = ready.made if isinstance(ready.made, Result) else classifier.answer(ready.made, ready.ms)
            result = _smoothed(classifier, smoother, single, seconds_of(ready.frame, camera.policy))
            age_ms = (time.monotonic() - ready.frame.captured) * 1e3
            yield StreamResult(ready.frame, result, age_ms, camera.dropped + stages.dropped, origin)
            if health is not None and (health.take(single) or (health.active and (back or not reported))):
                reported = True
                yield health_event(health, origin)


def health_event(health: "Health", origin: Origin = NOWHERE) -> StreamEvent:
    """Return the event about the state of a Health."""
    state = "changed" if health.active else "normal"
    return StreamEvent(state, health.reason, time.time(), origin, health.active)


def _smoothed(classifier: "Classifier", smoother: "Optional[Smoother]", result: Result, at: float) -> Result:
    if smoother is None or result.confidences is None:
        return result
    averaged = smoother.update(result.confidences, at)
    # A frame may be near by itself while the average is still far.
    near = result._replace(nearest=smoother.nearest(result.nearest))
    return classifier.decide(near, *averaged, distance=smoother.distance(result.distance))


def _backend_event(classifier: "Classifier", fallback: "Optional[Fallback]", origin: Origin) -> StreamEvent:
    if fallback is None:
        in_use = "{} on {}".format(classifier.model, classifier.backend)
        return StreamEvent("restored", "classifying with {} again".format(in_use), time.time(), origin)
    return StreamEvent("degraded", str(fallback), fallback.since, origin)


def _open_stages(
    classifier: "Classifier",
    camera: "Camera",
    roi: Optional[Sequence[float]],
    rotation: int,
    health: "Optional[Health]",
    motion: "Optional[MotionGate]",
) -> Union[Prefetch, Ahead]:
    """Return the threads between a camera and its results, as one object that hands out Ready frames.

    For a file the frame rate counts; for a live camera the newest frame does, and all of the backend's threads work on it.
    """
    file = camera.policy == "all"

    def prepare(image: "np.ndarray") -> "np.ndarray":
        batch = classifier.prepare(image, roi, rotation)
        if health is not None:
            health.see(batch)
        return batch

    def classify(image: "np.ndarray") -> Result:
        start = time.perf_counter()
        batch = prepare(image)
        preprocess_ms = (time.perf_counter() - start) * 1e3
        return classifier.answer(classifier.infer(batch), preprocess_ms)

    def moves(frame: Frame) -> bool:
        if motion is None:
            return True
        before = motion.resting
        passes = motion.passes(frame.image, seconds_of(frame, camera.policy))
        if motion.resting != before:
            camera.rest(motion.resting)
        return passes

    if file and classifier.at_once > 1:
        return Prefetch(camera, classify, classifier.at_once, moves)
    return Ahead(Prefetch(camera, prepare, wanted=moves), classifier.infer, always=file)
