"""A camera's frames, classified one after another until it ends; losses are told, and waited out.

Knows nothing of where the results go.
"""

import json
import time
from typing import Any, Dict, NamedTuple

from ..capture.base import IMAGES_FPS, Frame
from ..errors import CameraLost, EndOfStream
from ..results import NOWHERE, Origin, Result, find_origin
from .overlap import Ahead
from .prefetch import Prefetch

IDLE_S = 0.5


class StreamEvent(NamedTuple):
    """Something that happened to a stream between two frames.

    state       "live", or "lost" while there is no camera; "degraded" when a worse model or backend has taken over,
                "restored" when the better one is back
    reason      what happened, as one sentence
    at          seconds since 1970
    origin      of the stream
    """

    state: str
    reason: str
    at: float
    origin: Origin = NOWHERE

    def to_dict(self) -> Dict[str, Any]:
        """The line that ``run --json`` writes."""
        return dict({"state": self.state, "reason": self.reason, "at": round(self.at, 6)}, **self.origin.to_dict())

    def to_json(self):
        """:meth:`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self):
        return "{:>6}  {}: {}".format("", self.state, self.reason)


class StreamResult(NamedTuple):
    """One frame and its result.

    age_ms      from the frame's capture to its label
    dropped     frames that the camera captured and nobody classified, so far
    origin      of the stream, the same object in each of its results
    """

    frame: Frame
    result: Result
    age_ms: float
    dropped: int = 0
    origin: Origin = NOWHERE

    def to_dict(self) -> Dict[str, Any]:
        """The line that ``run --json`` writes."""
        fields = self.result.to_dict()
        timings_ms = dict({"capture": round(self.frame.capture_ms, 3)}, **fields.pop("timings_ms"))
        line: Dict[str, Any] = {"frame": self.frame.number, "state": "live"}
        if self.frame.name:
            line["name"] = self.frame.name
        if self.frame.position_s is not None:
            line["position_s"] = round(self.frame.position_s, 6)
        line.update(fields, **self.origin.to_dict())
        line.update(captured_at=round(self.frame.captured_at, 6), age_ms=round(self.age_ms, 3), timings_ms=timings_ms)
        return line

    def to_json(self):
        """:meth:`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self):
        return "{:>6}  {}  age {:.1f} ms  {}".format(
            self.frame.number, self.result, self.age_ms, self.frame.name
        ).rstrip()


def stream(classifier, camera, smoother=None, roi=None, rotation=0):
    """Yield a StreamResult for each frame that the camera hands out, until it ends; see :func:`follow`."""
    for item in follow(classifier, camera, smoother, roi, rotation):
        if isinstance(item, StreamResult):
            yield item


def follow(classifier, camera, smoother=None, roi=None, rotation=0, origin=None):
    """Yield what happens to a camera's stream, until it ends.

    smoother    a Smoother, or None for each frame's own label; it begins anew when the camera was lost
    roi, rotation   as ``Classifier.classify`` takes them
    origin      of the results; None finds it, the device's name in the environment's EDGECLF_DEVICE_NAME

    Yields a StreamResult for each frame, a StreamEvent when the camera is lost, when it is back, and before the first
    frame of another backend, and None every IDLE_S while there is nothing, so that a loop around it stays alive.
    """
    lost_at = fallback = None
    mode = ""
    origin = origin or find_origin(classifier.bundle_id, camera.name)
    with _open_stages(classifier, camera, roi, rotation) as stages:
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
            again = lost_at is not None and fallback is not None  # "live" is not all that is to be known
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
            result = ready.made if isinstance(ready.made, Result) else classifier.answer(ready.made, ready.ms)
            if smoother:
                at = _seconds_of(ready.frame, camera.policy)
                result = classifier.decide(result, *smoother.update(result.confidences, at))
            age_ms = (time.monotonic() - ready.frame.captured) * 1e3
            yield StreamResult(ready.frame, result, age_ms, camera.dropped + stages.dropped, origin)


def _backend_event(classifier, fallback, origin):
    if fallback is None:
        in_use = "{} on {}".format(classifier.model, classifier.backend)
        return StreamEvent("restored", "classifying by {} again".format(in_use), time.time(), origin)
    return StreamEvent("degraded", str(fallback), fallback.since, origin)


def _seconds_of(frame, policy):
    """Return the time by which a frame is smoothed: the film's own or, of a live camera, the capture's.

    Of images, which have none, the time of reading them would make labels depend on the machine's speed.
    """
    if frame.position_s is not None:
        return frame.position_s
    return frame.number / IMAGES_FPS if policy == "all" else frame.captured


def _open_stages(classifier, camera, roi, rotation):
    """Return the threads between a camera and its results, as one thing that hands out Ready frames.

    Of a file counts how many frames a second; of a live camera the newest frame, and all of the backend's threads work on it.
    """
    file = camera.policy == "all"
    if file and classifier.at_once > 1:
        return Prefetch(camera, lambda image: classifier.classify(image, roi, rotation), classifier.at_once)
    prefetch = Prefetch(camera, lambda image: classifier.prepare(image, roi, rotation))
    return Ahead(prefetch, classifier.infer, always=file)
