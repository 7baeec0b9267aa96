"""Trying better backends again in the background, after one of them failed and another took over."""

import logging
import math
import threading
import time
from typing import Optional

FIRST_S, MOST_S = 60.0, 3600.0
"""Until the first attempt; the time doubles with each, up to the other."""
_log = logging.getLogger(__name__)


class Recovery:
    """A thread that opens better backends now and then, as long as there are any; one attempt at a time.

    selection       a Selection
    return_to       is called with the index, the Model and the Runner of one that passed its golden images
    """

    def __init__(self, selection, return_to):
        self._selection, self._return_to = selection, return_to
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self._delay_s, self._returned = FIRST_S, -math.inf

    def begin(self):
        """Begin, unless it is at it, or there is nothing to try."""
        with self._lock:
            if self._thread is not None or self._closing.is_set() or not self._selection.better():
                return
            # What fails again soon after its return is tried ever less often.
            if time.monotonic() - self._returned > self._delay_s:
                self._delay_s = FIRST_S
            self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)
            self._thread.start()

    def _run(self):
        while self._has_more() and not self._closing.wait(self._delay_s):
            self._delay_s = min(2 * self._delay_s, MOST_S)
            try:
                found = self._selection.open_better()
            except Exception:  # a mistake of ours: the program goes on as it is
                _log.exception("a better backend cannot be tried again")
                continue
            if found is not None:
                self._return_to(*found)
                self._returned = time.monotonic()

    def _has_more(self):
        with self._lock:
            if self._closing.is_set() or not self._selection.better():
                self._thread = None
            return self._thread is not None

    def stop(self):
        """Open nothing any more; an attempt that is under way ends by itself, and is undone."""
        self._closing.set()
        self._selection.close()

    def join(self, timeout_s):
        """Wait for the thread's end."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
