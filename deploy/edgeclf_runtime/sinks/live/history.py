"""The history of a stream that its page remembers, in bounded memory: the latest events."""

import collections
from typing import TYPE_CHECKING, Deque, List

if TYPE_CHECKING:
    from ...files.schema import JsonObject

MOST_EVENTS = 256


class History:
    """The latest MOST_EVENTS events of labels and states.  Not safe to use from several threads at once.

    count       number of events so far, with those that are no longer kept
    """

    def __init__(self) -> None:
        self.count = 0
        self._events: "Deque[JsonObject]" = collections.deque(maxlen=MOST_EVENTS)

    def take(self, event: "JsonObject") -> None:
        """Keep an event, the line that ``run --json`` writes."""
        self.count += 1
        self._events.append(dict({"number": self.count}, **event))

    @property
    def events(self) -> "List[JsonObject]":
        """The kept events, the newest last; ``number`` counts from 1."""
        return list(self._events)
