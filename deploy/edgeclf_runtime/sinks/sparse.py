"""SparseSink, which passes on few results, and all events, to another sink."""

import math
from typing import TYPE_CHECKING, Dict, Optional

from ..capture.camera import seconds_of
from .base import Sink

if TYPE_CHECKING:
    from ..results import LabelEvent, StreamEvent, StreamResult


class SparseSink(Sink):
    """Passes on at most one result in ``every_s``.

    sink        gets them; opened, flushed and closed with this one
    every_s     by the camera's or video's own time, 0 or more; None passes on no result
    policy      the camera's
    """

    def __init__(self, sink: Sink, every_s: Optional[float], policy: str) -> None:
        self._sink, self._every_s, self._policy = sink, every_s, policy
        self._last = -math.inf
        self.name = sink.name

    @property
    def losses(self) -> Dict[str, int]:  # type: ignore[override]
        """The losses of the other sink."""
        return self._sink.losses

    def write(self, item: "StreamResult") -> None:
        if self._every_s is None:
            return
        at = seconds_of(item.frame, self._policy)
        if not self._last <= at < self._last + self._every_s:  # a time before the last one is of another stream
            self._last = at
            self._sink.write(item)

    def event(self, event: "StreamEvent") -> None:
        self._sink.event(event)

    def label_event(self, event: "LabelEvent") -> None:
        self._sink.label_event(event)

    def flush(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        self._sink.close()
