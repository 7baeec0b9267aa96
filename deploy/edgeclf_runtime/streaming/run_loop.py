"""Writes a camera's stream into sinks, until it ends or the program is stopped."""

from typing import TYPE_CHECKING, Dict, Iterator, NamedTuple, Optional, Sequence, Union

from ..device import systemd
from ..device.systemd import Notifier
from ..results import StreamEvent, StreamResult
from .stream import follow

if TYPE_CHECKING:
    from ..capture.camera import Camera
    from ..classify.classifier import Classifier
    from ..results import Origin
    from ..sinks.base import Sink
    from .health.watch import Health
    from .smoothing import Smoother


class RunSummary(NamedTuple):
    """The counts of a run.

    frames      frames that were classified
    dropped     frames that were captured and never classified, because newer ones came
    skipped     files that could not be read
    losses      times that the camera was lost
    undelivered results that sinks could not deliver: their number by sink and by reason
    """

    frames: int
    dropped: int
    skipped: int
    losses: int
    undelivered: Dict[str, Dict[str, int]] = {}

    def to_dict(self) -> Dict[str, object]:
        """Return the summary as JSON can hold it; ``undelivered`` only if there is any."""
        return {name: value for name, value in self._asdict().items() if name != "undelivered" or value}

    def __str__(self) -> str:
        lost = ", camera lost {}".format(_counted(self.losses, "time")) if self.losses else ""
        text = "{} classified, {} dropped, {} unreadable{}".format(
            _counted(self.frames, "frame"), self.dropped, self.skipped, lost
        )
        for name, losses in self.undelivered.items():
            reasons = ", ".join("{} ({})".format(count, reason) for reason, count in losses.items())
            text += "; lost for {}: {}".format(name, reasons)
        return text


def _counted(count: int, what: str) -> str:
    return "{} {}{}".format(count, what, "" if count == 1 else "s")


class Run:
    """A run; :meth:`summary` works at any time, even after an interruption.

    sinks       objects with the methods write(StreamResult) and event(StreamEvent)
    """

    def __init__(
        self,
        classifier: "Classifier",
        camera: "Camera",
        sinks: "Sequence[Sink]",
        notifier: Optional[Notifier] = None,
    ) -> None:
        self._classifier, self._camera, self._sinks = classifier, camera, sinks
        self._notifier = notifier or Notifier()
        self._ready, self._by = False, ""
        self._frames = self._dropped = self._losses = 0

    def go(
        self,
        smoother: "Optional[Smoother]" = None,
        roi: Optional[Sequence[float]] = None,
        rotation: int = 0,
        frames: Optional[int] = None,
        origin: "Optional[Origin]" = None,
        health: "Optional[Health]" = None,
    ) -> None:
        """Classify until the source ends, or until ``frames`` are classified; other arguments as for ``follow``."""
        items = follow(self._classifier, self._camera, smoother, roi, rotation, origin, health)
        try:
            with systemd.speaking(self._notifier):
                self._follow(items, frames)
        finally:
            self._notifier.stopping()
            items.close()
            if health is not None:
                health.close()

    def _follow(self, items: Iterator[Union[StreamResult, StreamEvent, None]], frames: Optional[int]) -> None:
        for item in items:
            self._notifier.alive()
            if isinstance(item, StreamEvent):
                self._take_event(item)
            elif item is not None:
                self._take(item)
                if self._frames == frames:
                    break

    def _take(self, item: StreamResult) -> None:
        by = "classifying with {} on {}".format(item.result.model, item.result.backend)
        if by != self._by:
            self._by = by
            self._say(by)
        self._frames += 1
        self._dropped = item.dropped
        for sink in self._sinks:
            sink.write(item)

    def _take_event(self, event: StreamEvent) -> None:
        self._losses += event.state == "lost"
        # A service without its camera counts as ready: systemd would stop and start it forever.
        waiting = event.state == "lost" and not self._ready
        self._say("waiting for the camera: {}".format(event.reason) if waiting else event.reason)
        for sink in self._sinks:
            sink.event(event)

    def _say(self, status: str) -> None:
        (self._notifier.status if self._ready else self._notifier.ready)(status)
        self._ready = True

    def summary(self) -> RunSummary:
        """Return the counts so far."""
        undelivered = {sink.name or type(sink).__name__: sink.losses for sink in self._sinks if sink.losses}
        return RunSummary(self._frames, self._dropped, self._camera.skipped, self._losses, undelivered)
