"""LateSink, a sink that is unavailable when the program starts and is opened later.

For services, which can start before a disk is mounted or the network has an address.
"""

import logging
import threading
from typing import TYPE_CHECKING, Callable, Optional

from ..errors import EdgeclfError, Unavailable
from .base import Sink
from .conditions import Conditions
from .outage import Outage

if TYPE_CHECKING:
    from ..results import LabelEvent, StreamEvent, StreamResult

_log = logging.getLogger(__name__)
RETRY_S = 5.0
CLOSE_TIMEOUT_S = 1.0
_NOT_YET = "it was not available yet"


def open_late(name: str, open_: Callable[[], Sink]) -> Sink:
    """Return the Sink that ``open_()`` returns, or a LateSink if it raises Unavailable; other errors pass through."""
    try:
        return open_()
    except Unavailable as error:
        return LateSink(name, open_, error)


class LateSink(Sink):
    """Tries to open a sink every RETRY_S in its own thread; results that arrive before that are lost.

    name    the sink's name for the log
    open_   function that returns the sink, or raises an error
    error   why it could not be opened
    """

    def __init__(self, name: str, open_: Callable[[], Sink], error: Unavailable) -> None:
        self.name, self._open, self._outage = name, open_, Outage(_log, name)
        self._outage.begin("not available, results are lost: {}".format(error))
        self._sink: Optional[Sink] = None
        self._conditions = Conditions()  # for a page that opens later
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._try, name="late sink", daemon=True)
        self._thread.start()

    def _try(self) -> None:
        while not self._closing.wait(RETRY_S):
            try:
                sink = self._open()
            except (EdgeclfError, OSError) as error:
                _log.debug("%s", error)
                continue
            with self._lock:
                if self._closing.is_set():
                    sink.close()
                    return
                for event in self._conditions.events:
                    sink.event(event)
                self._sink = sink
            self._outage.end("is available; {} results were lost".format(self.lost))
            return

    def write(self, item: "StreamResult") -> None:
        if self._sink is None:
            self.lose(_NOT_YET)
        else:
            self._sink.write(item)
            self._count(self._sink)

    def label_event(self, event: "LabelEvent") -> None:
        if self._sink is None:
            self.lose(_NOT_YET)
        else:
            self._sink.label_event(event)
            self._count(self._sink)

    def _count(self, sink: Sink) -> None:
        """Add the sink's own losses to those from before it was open."""
        before = {reason: count for reason, count in self.losses.items() if reason == _NOT_YET}
        self.losses = dict(sink.losses, **before)

    def flush(self) -> None:
        if self._sink is not None:
            self._sink.flush()
            self._count(self._sink)

    def event(self, event: "StreamEvent") -> None:
        with self._lock:
            self._conditions.take(event)
            if self._sink is not None:
                self._sink.event(event)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._sink is not None:
            self._sink.close()
            self._count(self._sink)
