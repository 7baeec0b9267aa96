"""A sink that is not there when the program starts: tried again until it is.

For a service, which starts before its disk is mounted or its network has an address.  Knows nothing of results.
"""

import logging
import threading
from typing import Any

from ..errors import OutputError, Unavailable
from .base import Sink
from .outage import Outage

_log = logging.getLogger(__name__)
RETRY_S = 5.0
CLOSE_TIMEOUT_S = 1.0
_NOT_YET = "it was not there yet"


def open_late(name, open_):
    """Return the Sink that ``open_()`` returns, or while that raises Unavailable a LateSink; raises its other errors."""
    try:
        return open_()
    except Unavailable as error:
        return LateSink(name, open_, error)


class LateSink(Sink):
    """Tries to open a sink every RETRY_S, in a thread of its own; results that come meanwhile are lost.

    name    of the sink, for the log
    open_   returns the sink, or raises OutputError
    error   why it could not be opened
    """

    def __init__(self, name, open_, error):
        self.name, self._open, self._outage = name, open_, Outage(_log, name)
        self._outage.begin("not there, results are lost: {}".format(error))
        self._sink: Any = None
        self._event: Any = None  # the last one, which is news to a page that opens
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._try, name="late sink", daemon=True)
        self._thread.start()

    def _try(self):
        while not self._closing.wait(RETRY_S):
            try:
                sink = self._open()
            except (OutputError, OSError) as error:
                _log.debug("%s", error)
                continue
            with self._lock:
                if self._closing.is_set():
                    sink.close()
                    return
                if self._event is not None:
                    sink.event(self._event)
                self._sink = sink
            self._outage.end("is there; {} results were lost".format(self.lost))
            return

    def write(self, item):
        if self._sink is None:
            self.lose(_NOT_YET)
        else:
            self._sink.write(item)
            self._count()

    def _count(self):
        """Take over what the sink has lost, beside what was lost before it was there."""
        before = {reason: count for reason, count in self.losses.items() if reason == _NOT_YET}
        self.losses = dict(self._sink.losses, **before)

    def flush(self):
        if self._sink is not None:
            self._sink.flush()
            self._count()

    def event(self, event):
        with self._lock:
            self._event = event
            if self._sink is not None:
                self._sink.event(event)

    def close(self):
        self._closing.set()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._sink is not None:
            self._sink.close()
            self._count()
