"""Writes a camera's stream into sinks, until it ends or the program is stopped."""

import contextlib
from typing import TYPE_CHECKING, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Type, Union

from ..capture.camera import seconds_of
from ..device import systemd
from ..device.systemd import Notifier
from ..results import ENDED_LOST, ENDED_STOPPED, LabelEvent, StreamEvent, StreamResult
from .stream import follow

if TYPE_CHECKING:
    from ..capture.camera import Camera
    from ..classify.classifier import Classifier
    from ..results import Origin
    from ..sinks.base import Sink
    from .health.watch import Health
    from .label_events import LabelEvents
    from .motion import MotionGate
    from .smoothing import Smoother


class RunSummary(NamedTuple):
    """The counts of a run.

    frames      frames that were classified
    dropped     frames that were captured and never classified, because newer ones came
    skipped     files that could not be read
    losses      times that the camera was lost
    undelivered results that sinks could not deliver: their number by sink and by reason
    still       frames that were left out because nothing moved
    """

    frames: int
    dropped: int
    skipped: int
    losses: int
    undelivered: Dict[str, Dict[str, int]] = {}
    still: int = 0

    def to_dict(self) -> Dict[str, object]:
        """Return the summary as JSON can hold it; ``undelivered`` and ``still`` only if there are any."""
        return {name: value for name, value in self._asdict().items() if name not in ("undelivered", "still") or value}

    def __str__(self) -> str:
        lost = ", camera lost {}".format(_counted(self.losses, "time")) if self.losses else ""
        still = ", {} without motion".format(self.still) if self.still else ""
        text = "{} classified{}, {} dropped, {} unreadable{}".format(
            _counted(self.frames, "frame"), still, self.dropped, self.skipped, lost
        )
        for name, losses in self.undelivered.items():
            reasons = ", ".join("{} ({})".format(count, reason) for reason, count in losses.items())
            text += "; lost for {}: {}".format(name, reasons)
        return text


class RunStopped(Exception):  # noqa: N818 - it is requested
    """Another thread has called Run.stop()."""


def _counted(count: int, what: str) -> str:
    return "{} {}{}".format(count, what, "" if count == 1 else "s")


class Run:
    """A run; :meth:`summary` works at any time, even after an interruption.

    sinks       objects with the methods write(StreamResult), event(StreamEvent) and label_event(LabelEvent)
    events      a LabelEvents, or None for no events of labels
    motion      a MotionGate, or None to classify every frame
    """

    def __init__(
        self,
        classifier: "Classifier",
        camera: "Camera",
        sinks: "Sequence[Sink]",
        notifier: Optional[Notifier] = None,
        events: "Optional[LabelEvents]" = None,
        motion: "Optional[MotionGate]" = None,
    ) -> None:
        self._events, self._motion = events, motion
        self._classifier, self._camera, self._sinks = classifier, camera, sinks
        self._notifier = notifier or Notifier()
        self._ready, self._by = False, ""
        self._stopped = False
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
        items = follow(self._classifier, self._camera, smoother, roi, rotation, origin, health, self._motion)
        try:
            with systemd.speaking(self._notifier):
                self._follow(items, frames)
                self._end_label_events()
        except BaseException:
            # A sink that has failed, such as a closed stdout, may fail again; the others get the events.
            self._end_label_events(tolerated=(OSError,))
            raise
        finally:
            self._notifier.stopping()
            items.close()
            if health is not None:
                health.close()

    def _follow(self, items: Iterator[Union[StreamResult, StreamEvent, None]], frames: Optional[int]) -> None:
        for item in items:
            if self._stopped:
                raise RunStopped
            self._notifier.alive()
            if isinstance(item, StreamEvent):
                self._take_event(item)
            elif item is not None:
                self._take(item)
                if self._frames == frames:
                    break

    def stop(self) -> None:
        """Make go() raise RunStopped, within half a second; may be called from any thread."""
        self._stopped = True

    def _take(self, item: StreamResult) -> None:
        by = "classifying with {} on {}".format(item.result.model, item.result.backend)
        if by != self._by:
            self._by = by
            self._say(by)
        self._frames += 1
        self._dropped = item.dropped
        for sink in self._sinks:
            sink.write(item)
        if self._events is not None:
            self._report(self._events.take(item, seconds_of(item.frame, self._camera.policy)))

    def _report(self, events: List[LabelEvent], tolerated: Tuple[Type[Exception], ...] = ()) -> None:
        for event in events:
            for sink in self._sinks:
                with contextlib.suppress(*tolerated):
                    sink.label_event(event)

    def _end_label_events(self, reason: str = ENDED_STOPPED, tolerated: Tuple[Type[Exception], ...] = ()) -> None:
        if self._events is not None:
            self._report(self._events.end(reason), tolerated)

    def _take_event(self, event: StreamEvent) -> None:
        self._losses += event.state == "lost"
        # A service without its camera counts as ready: systemd would stop and start it forever.
        waiting = event.state == "lost" and not self._ready
        self._say("waiting for the camera: {}".format(event.reason) if waiting else event.reason)
        for sink in self._sinks:
            sink.event(event)
        if event.state == "lost":
            self._end_label_events(ENDED_LOST)

    def _say(self, status: str) -> None:
        (self._notifier.status if self._ready else self._notifier.ready)(status)
        self._ready = True

    def summary(self) -> RunSummary:
        """Return the counts so far."""
        undelivered = {sink.name or type(sink).__name__: sink.losses for sink in self._sinks if sink.losses}
        still = self._motion.still + self._camera.rested if self._motion is not None else 0
        return RunSummary(self._frames, self._dropped, self._camera.skipped, self._losses, undelivered, still)
