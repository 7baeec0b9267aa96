"""The history of a stream that its page remembers, in bounded memory: the latest events, and the labels of the last hour."""

import collections
from typing import TYPE_CHECKING, Counter, Deque, Dict, List, Optional, Tuple

if TYPE_CHECKING:
    from ...files.schema import JsonObject

MOST_EVENTS = 256
SLOT_S = 10.0
SLOTS = 360


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


class Band:
    """The most frequent label of each SLOT_S in the last hour.  Not safe to use from several threads at once.

    Times are those of ``time.monotonic()``.
    """

    def __init__(self) -> None:
        self._slot = 0  # the number of the one that is being counted
        self._counts: "Counter[str]" = collections.Counter()
        self._past: Deque[Tuple[int, str]] = collections.deque(maxlen=SLOTS)

    def take(self, label: str, at: float) -> None:
        """Count a result."""
        slot = int(at // SLOT_S)
        if slot != self._slot:
            self._past.extend(self._counted())
            self._slot, self._counts = slot, collections.Counter()
        self._counts[label] += 1

    def _counted(self) -> List[Tuple[int, str]]:
        return [(self._slot, self._counts.most_common(1)[0][0])] if self._counts else []

    def runs(self, now: float) -> "List[JsonObject]":
        """Return runs of slots with the same label, the newest last: ``label``, None without a result, and ``slots``."""
        known: Dict[int, str] = dict([*self._past, *self._counted()])
        last = int(now // SLOT_S)
        runs: "List[JsonObject]" = []
        for slot in range(last - SLOTS + 1, last + 1):
            label: Optional[str] = known.get(slot)
            if runs and runs[-1]["label"] == label:
                runs[-1]["slots"] += 1
            else:
                runs.append({"label": label, "slots": 1})
        return runs
