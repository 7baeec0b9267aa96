"""What a device is left with: a camera's stream into sinks, until it ends or is told to stop."""

from typing import Any, Dict, NamedTuple

from .notify import Notifier
from .stream import StreamEvent, follow


class RunSummary(NamedTuple):
    """What a run did.

    frames      classified
    dropped     captured and never classified, since newer ones came
    skipped     files that could not be read
    losses      how often the camera was lost
    """

    frames: int
    dropped: int
    skipped: int
    losses: int

    def to_dict(self) -> Dict[str, Any]:
        """The summary as JSON can hold it."""
        return dict(self._asdict())

    def __str__(self):
        lost = ", camera lost {} times".format(self.losses) if self.losses else ""
        return "{} frames classified, {} dropped, {} unreadable{}".format(self.frames, self.dropped, self.skipped, lost)


class Run:
    """A run, which :meth:`summary` tells about at any time, after an interruption too."""

    def __init__(self, classifier, camera, sinks, notifier=None):
        self._classifier, self._camera, self._sinks = classifier, camera, sinks
        self._notifier = notifier or Notifier()
        self._frames = self._dropped = self._losses = 0

    def go(self, smoother=None, roi=None, rotation=0, frames=None):
        """Classify until the source ends, or until so many ``frames`` are; other arguments as ``follow`` takes them."""
        items = follow(self._classifier, self._camera, smoother, roi, rotation)
        try:
            for item in items:
                self._notifier.alive()
                if isinstance(item, StreamEvent):
                    self._tell(item)
                elif item is not None:
                    self._take(item)
                    if self._frames == frames:
                        break
        finally:
            self._notifier.stopping()
            items.close()

    def _take(self, item):
        if not self._frames:
            self._notifier.ready("classifying by {} on {}".format(item.result.model, item.result.backend))
        self._frames += 1
        self._dropped = item.dropped
        for sink in self._sinks:
            sink.write(item)

    def _tell(self, event):
        self._losses += event.state == "lost"
        self._notifier.status(event.reason)
        for sink in self._sinks:
            sink.event(event)

    def summary(self):
        """Return a RunSummary of what was done so far."""
        return RunSummary(self._frames, self._dropped, self._camera.skipped, self._losses)
