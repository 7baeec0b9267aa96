"""What a device is left with: a camera's stream into sinks, until it ends or is told to stop."""

from typing import Any, Dict, NamedTuple

from ..device import systemd
from ..device.systemd import Notifier
from .stream import StreamEvent, follow


class RunSummary(NamedTuple):
    """What a run did.

    frames      classified
    dropped     captured and never classified, since newer ones came
    skipped     files that could not be read
    losses      how often the camera was lost
    undelivered results that sinks could not deliver: their number by the reason, by the sink's name
    """

    frames: int
    dropped: int
    skipped: int
    losses: int
    undelivered: Dict[str, Dict[str, int]] = {}

    def to_dict(self) -> Dict[str, Any]:
        """The summary as JSON can hold it; ``undelivered`` only if there is any."""
        return {name: value for name, value in self._asdict().items() if name != "undelivered" or value}

    def __str__(self):
        lost = ", camera lost {} times".format(self.losses) if self.losses else ""
        text = "{} frames classified, {} dropped, {} unreadable{}".format(self.frames, self.dropped, self.skipped, lost)
        for name, losses in self.undelivered.items():
            reasons = ", ".join("{} ({})".format(count, reason) for reason, count in losses.items())
            text += "; lost for {}: {}".format(name, reasons)
        return text


class Run:
    """A run, which :meth:`summary` describes at any time, after an interruption too."""

    def __init__(self, classifier, camera, sinks, notifier=None):
        self._classifier, self._camera, self._sinks = classifier, camera, sinks
        self._notifier = notifier or Notifier()
        self._ready, self._by = False, ""
        self._frames = self._dropped = self._losses = 0

    def go(self, smoother=None, roi=None, rotation=0, frames=None, origin=None):
        """Classify until the source ends, or until so many ``frames`` are; other arguments as ``follow`` takes them."""
        items = follow(self._classifier, self._camera, smoother, roi, rotation, origin)
        try:
            with systemd.speaking(self._notifier):
                self._follow(items, frames)
        finally:
            self._notifier.stopping()
            items.close()

    def _follow(self, items, frames):
        for item in items:
            self._notifier.alive()
            if isinstance(item, StreamEvent):
                self._tell(item)
            elif item is not None:
                self._take(item)
                if self._frames == frames:
                    break

    def _take(self, item):
        by = "classifying by {} on {}".format(item.result.model, item.result.backend)
        if by != self._by:
            self._by = by
            self._say(by)
        self._frames += 1
        self._dropped = item.dropped
        for sink in self._sinks:
            sink.write(item)

    def _tell(self, event):
        self._losses += event.state == "lost"
        # A service whose camera is not there yet is ready: systemd would end it, and start it again, for ever.
        waiting = event.state == "lost" and not self._ready
        self._say("waiting for the camera: {}".format(event.reason) if waiting else event.reason)
        for sink in self._sinks:
            sink.event(event)

    def _say(self, status):
        (self._notifier.status if self._ready else self._notifier.ready)(status)
        self._ready = True

    def summary(self):
        """Return a RunSummary of what was done so far."""
        undelivered = {sink.name or type(sink).__name__: sink.losses for sink in self._sinks if sink.losses}
        return RunSummary(self._frames, self._dropped, self._camera.skipped, self._losses, undelivered)
