"""What every sink looks like from outside."""

import threading
from typing import Dict

MOST_REASONS = 4
TOO_FAST = "they come faster than they can be encoded and stored"
_COUNTING = threading.Lock()  # one for all sinks: losses are rare


class Sink:
    """A place where results go.  Used inside ``with``; called from one thread.

    A sink never stops the classification of a live camera: what the world around it does (a disk that is full, a
    broker that is away, a page that nobody watches) is logged once, when it begins and when it
    ends, and results that could not be delivered are counted in ``losses``.  Of a source that waits, a file, a sink
    loses nothing because it is slow: write() waits.  Opening is strict: what can never work raises OutputError at once.

    name        what it writes to, as people know it
    losses      results that were not delivered, by the reason
    """

    name = ""
    losses: Dict[str, int] = {}

    @property
    def lost(self):
        """The number of results that were not delivered."""
        return sum(self.losses.values())

    def lose(self, reason, count=1):
        """Count results that could not be delivered; any thread may.

        reason      a few words, or the exception
        """
        reason = reason if isinstance(reason, str) else reason_of(reason)
        with _COUNTING:
            losses = dict(self.losses)
            if reason not in losses and len(losses) >= MOST_REASONS:
                reason = "other reasons"
            losses[reason] = losses.get(reason, 0) + count
            self.losses = losses

    def write(self, item):
        """Take one StreamResult; must return within a few milliseconds if the source is live.

        ``item.frame.image`` (BGR, uint8 [height, width, 3]) is valid during this call only: copy what is kept.
        """
        raise NotImplementedError

    def event(self, event):
        """Take one StreamEvent (a camera that was lost or is back, another backend); most sinks have no use for it."""

    def flush(self):
        """Deliver or store the rest, however long that takes; for a run that has ended."""

    def close(self):
        """Deliver or store what is left, within a second; a second call does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, kind, *exception):
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()


def reason_of(error):
    """Return why something failed in the operating system's words, or else in those of the exception."""
    found = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    return str(error)
