"""Conditions, what holds now of a stream's camera, backend and health: the latest event about each."""

from typing import TYPE_CHECKING, Dict, Optional, Tuple

if TYPE_CHECKING:
    from ..results import StreamEvent

CAMERA, BACKEND, HEALTH = "camera", "backend", "health"
_SUBJECTS = {"degraded": BACKEND, "restored": BACKEND, "changed": HEALTH, "normal": HEALTH}
# The worst first: without a camera there are no results; with other images they may be wrong; a backend only makes them late.
_TROUBLES = ((CAMERA, "lost"), (HEALTH, "changed"), (BACKEND, "degraded"))


class Conditions:
    """The latest StreamEvent about each subject, so that one does not hide another that still holds."""

    def __init__(self) -> None:
        self._latest: "Dict[str, StreamEvent]" = {}

    def take(self, event: "StreamEvent") -> None:
        """Take the next event of the stream."""
        subject = _SUBJECTS.get(event.state, CAMERA)
        self._latest.pop(subject, None)
        self._latest[subject] = event

    def forget(self, subject: str) -> None:
        """Forget the latest event about a subject, which no longer holds."""
        self._latest.pop(subject, None)

    def get(self, subject: str) -> "Optional[StreamEvent]":
        """Return the latest event about CAMERA, BACKEND or HEALTH; None if there was none."""
        return self._latest.get(subject)

    def trouble(self, subject: str) -> "Optional[StreamEvent]":
        """Return the event by which a subject is in trouble now, or None."""
        event = self._latest.get(subject)
        return event if event is not None and (subject, event.state) in _TROUBLES else None

    @property
    def worst(self) -> "Optional[StreamEvent]":
        """The worst event that holds now, or None if all is well."""
        found = (self.trouble(subject) for subject, _ in _TROUBLES)
        return next((event for event in found if event is not None), None)

    @property
    def events(self) -> "Tuple[StreamEvent, ...]":
        """The latest events, one for each subject, in the order in which they came."""
        return tuple(self._latest.values())
