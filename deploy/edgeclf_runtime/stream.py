"""A camera's frames, classified one after another until it ends; losses are told, and waited out.

Knows nothing of where the results go.
"""

import json
import time
from typing import Any, Dict, NamedTuple

from .ahead import Ahead
from .errors import CameraLost, EndOfStream
from .frames import Frame
from .prefetch import Prefetch
from .result import Result

IDLE_S = 0.5


class StreamEvent(NamedTuple):
    """Something that happened to a stream between two frames.

    state       "live", or "lost" while there is no camera
    reason      what happened, as one sentence
    at          seconds since 1970
    """

    state: str
    reason: str
    at: float

    def to_dict(self) -> Dict[str, Any]:
        """The line that ``run --json`` writes."""
        return {"state": self.state, "reason": self.reason, "at": round(self.at, 6)}

    def to_json(self):
        """:meth:`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self):
        return "{:>6}  {}: {}".format("", self.state, self.reason)


class StreamResult(NamedTuple):
    """One frame and its result.

    age_ms      from the frame's capture to its label
    dropped     frames that the camera captured and nobody classified, so far
    """

    frame: Frame
    result: Result
    age_ms: float
    dropped: int = 0

    def to_dict(self) -> Dict[str, Any]:
        """The line that ``run --json`` writes."""
        fields = self.result.to_dict()
        timings_ms = dict({"capture": round(self.frame.capture_ms, 3)}, **fields.pop("timings_ms"))
        line: Dict[str, Any] = {"frame": self.frame.number, "state": "live"}
        if self.frame.name:
            line["name"] = self.frame.name
        line.update(
            fields, captured_at=round(self.frame.captured_at, 6), age_ms=round(self.age_ms, 3), timings_ms=timings_ms
        )
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


def follow(classifier, camera, smoother=None, roi=None, rotation=0):
    """Yield what happens to a camera's stream, until it ends.

    smoother    a Smoother, or None for each frame's own label; it begins anew when the camera was lost
    roi, rotation   as ``Classifier.classify`` takes them

    Yields a StreamResult for each frame, a StreamEvent when the camera is lost and when it is
    back, and None every IDLE_S while there is nothing, so that a loop around it stays alive.
    """
    lost_at = None
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
                yield StreamEvent("lost", str(lost), time.time())
                continue
            if ready is None:
                yield None
                continue
            if lost_at is not None:
                yield StreamEvent("live", "back after {:.1f} s".format(time.monotonic() - lost_at), time.time())
                lost_at = None
            result = ready.made if isinstance(ready.made, Result) else classifier.answer(ready.made, ready.ms)
            if smoother:
                result = classifier.decide(result, *smoother.update(result.confidences, ready.frame.captured))
            age_ms = (time.monotonic() - ready.frame.captured) * 1e3
            yield StreamResult(ready.frame, result, age_ms, camera.dropped + stages.dropped)


def _open_stages(classifier, camera, roi, rotation):
    """Return the threads between a camera and its results, as one thing that hands out Ready frames.

    Of a file counts how many frames a second; of a live camera the newest frame, and all of the backend's threads work on it.
    """
    file = camera.policy == "all"
    if file and classifier.at_once > 1:
        return Prefetch(camera, lambda image: classifier.classify(image, roi, rotation), classifier.at_once)
    prefetch = Prefetch(camera, lambda image: classifier.prepare(image, roi, rotation))
    return Ahead(prefetch, classifier.infer, always=file)
