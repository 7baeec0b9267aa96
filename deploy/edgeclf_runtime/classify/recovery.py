"""Retries better backends in the background, after one failed and another took over."""

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    from ..bundle.open_bundle import Model
    from ..runners.base import Runner
    from .selection import Selection

FIRST_S, MOST_S = 60.0, 3600.0
"""Delay before the first attempt; it doubles with each attempt, up to the second value."""
_log = logging.getLogger(__name__)


class Recovery:
    """A thread that tries to open better backends from time to time, one at a time, as long as there are any.

    selection       a Selection
    return_to       called with the index, the Model and the Runner of a backend that passed its golden images
    """

    def __init__(self, selection: "Selection", return_to: "Callable[[int, Model, Runner], None]") -> None:
        self._selection, self._return_to = selection, return_to
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self._delay_s, self._returned = FIRST_S, -math.inf

    def begin(self) -> None:
        """Start the thread, unless it is running or there is nothing to try."""
        with self._lock:
            if self._thread is not None or self._closing.is_set() or not self._selection.better():
                return
            # A backend that fails again soon after its return is tried less and less often.
            if time.monotonic() - self._returned > self._delay_s:
                self._delay_s = FIRST_S
            self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while self._has_more() and not self._closing.wait(self._delay_s):
            self._delay_s = min(2 * self._delay_s, MOST_S)
            try:
                found = self._selection.open_better()
            except Exception:  # a bug of ours: the program continues with the present backend
                _log.exception("a better backend cannot be retried")
                continue
            if found is not None:
                self._return_to(*found)
                self._returned = time.monotonic()

    def _has_more(self) -> bool:
        with self._lock:
            if self._closing.is_set() or not self._selection.better():
                self._thread = None
            return self._thread is not None

    def stop(self) -> None:
        """Start no further attempts; one that is under way ends by itself, and its result is closed."""
        self._closing.set()
        self._selection.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
