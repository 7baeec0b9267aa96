"""Sink, the interface of every output of results."""

import threading
from typing import TYPE_CHECKING, Dict, Optional, Type, TypeVar, Union

if TYPE_CHECKING:
    from types import TracebackType

    from ..results import LabelEvent, StreamEvent, StreamResult

_Sink = TypeVar("_Sink", bound="Sink")
MOST_REASONS = 4
TOO_FAST = "they come faster than they can be encoded and stored"
_COUNTING = threading.Lock()  # one for all sinks: losses are rare


class Sink:
    """An output of results.  Used inside ``with``; called from one thread.

    A sink never holds up the classification of a live camera.  Outside trouble (a full disk, an unreachable broker, a page
    without viewers) is logged once when it begins and once when it ends, and results that could not be delivered are
    counted in ``losses``.  For a file, which can wait, a slow sink loses nothing: write() waits.  Opening is strict: what
    can never work raises OutputError at once.

    name        its name for people: a file, an address
    losses      number of results that were not delivered, by reason
    """

    name = ""
    losses: Dict[str, int] = {}

    @property
    def lost(self) -> int:
        """The number of results that were not delivered."""
        return sum(self.losses.values())

    def lose(self, reason: Union[str, BaseException], count: int = 1) -> None:
        """Count results that could not be delivered; may be called from any thread.

        reason      a few words, or the exception
        """
        reason = reason if isinstance(reason, str) else reason_of(reason)
        with _COUNTING:
            losses = dict(self.losses)
            if reason not in losses and len(losses) >= MOST_REASONS:
                reason = "other reasons"
            losses[reason] = losses.get(reason, 0) + count
            self.losses = losses

    def write(self, item: "StreamResult") -> None:
        """Take one StreamResult; must return within a few milliseconds if the source is live.

        ``item.frame.image`` (BGR, uint8 [height, width, 3]) is valid only during this call: copy it to keep it.
        """
        raise NotImplementedError

    def event(self, event: "StreamEvent") -> None:
        """Take one StreamEvent (a camera was lost or is back, the backend changed); most sinks ignore it."""

    def label_event(self, event: "LabelEvent") -> None:
        """Take one LabelEvent, if the run has rules for them; most sinks ignore it.

        ``event.best.image`` is a copy that stays valid, or None.
        """

    def flush(self) -> None:
        """Deliver or store the remaining results, however long it takes; for a run that has ended."""

    def close(self) -> None:
        """Deliver or store the remaining results within a second; a second call does nothing."""

    def __enter__(self: _Sink) -> _Sink:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: "Optional[TracebackType]",
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()


def reason_of(error: BaseException) -> str:
    """Return why something failed: the operating system's words if there are any, else those of the exception."""
    found: Optional[BaseException] = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    return str(error)
