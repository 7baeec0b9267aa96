"""A camera's frames, classified one after another until it ends.

Knows nothing of where the results go.
"""

import json
import time
from typing import Any, Dict, NamedTuple

from .camera import Frame
from .classifier import Result
from .errors import EndOfStream


class StreamResult(NamedTuple):
    """One frame and its result.

    age_ms      from the frame's capture to its label
    """

    frame: Frame
    result: Result
    age_ms: float

    def to_dict(self) -> Dict[str, Any]:
        """The line that ``run --json`` writes."""
        fields = self.result.to_dict()
        timings_ms = dict({"capture": round(self.frame.capture_ms, 3)}, **fields.pop("timings_ms"))
        line: Dict[str, Any] = {"frame": self.frame.number}
        if self.frame.name:
            line["name"] = self.frame.name
        line.update(
            fields, captured_at=round(self.frame.captured_at, 6), age_ms=round(self.age_ms, 3), timings_ms=timings_ms
        )
        return line

    def to_json(self):
        """:meth:`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict())


def stream(classifier, camera):
    """Yield a StreamResult for each frame that the camera hands out, until it ends."""
    while True:
        try:
            frame = camera.read()
        except EndOfStream:
            return
        result = classifier.classify(frame.image)
        yield StreamResult(frame, result, (time.monotonic() - frame.captured) * 1e3)
