"""Inferring the next frame while whoever asked for the last is busy with its label.

Deciding, smoothing and writing take a Jetson's Python about as long as a small model takes its
GPU, and the backends let go of Python's lock while they work.  Where the camera is faster than
the classifier the next inference has therefore a thread of its own.  Where it is not there is
nothing to be begun, and the caller infers by itself: handing over would make the label older.
"""

import collections
import math
import threading
import time
from typing import Any, Deque, Optional

from .prefetch import CLOSE_S, Ready


class Ahead:
    """Infers what a Prefetch has ready, the next frame ahead of being asked for it.  Used inside ``with``; closes the Prefetch too.

    infer       is called with what the Prefetch made, never twice at the same time; what it returns takes its place
    always      begin with the next at once, as is right for a file.  Without it only while the caller comes back
                sooner than an inference ends, because a result that waits for its caller is not of what is there now
    """

    def __init__(self, prefetch, infer, always=False):
        self._prefetch, self._infer, self._always = prefetch, infer, always
        self._given: Any = None  # what the thread infers; None while it has nothing to do
        self._held: Any = None  # what was inferred last
        self._done: Deque[Any] = collections.deque()  # what it has inferred, and errors
        self._changed = threading.Condition()
        self._waiting = self._closing = False
        self._handed_at = -math.inf
        self._caller_s, self._infer_s = math.inf, 0.0
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    @property
    def dropped(self):
        """Frames that were ready and never inferred."""
        return self._prefetch.dropped

    def get(self, timeout_s) -> Optional[Ready]:
        """Return the next frame and its inference, or None where there was no frame for ``timeout_s``.

        Waits for an inference as long as it takes, so that one that hangs is no sign of life.  Raises
        what reading the camera, preparing or inferring raised.
        """
        self._caller_s = time.monotonic() - self._handed_at
        if self._given or self._done:
            item = self._wait()
        else:
            ready = self._prefetch.get(timeout_s)
            item = None if ready is None else self._work(ready)
        if item is not None and not self._given and not self._done:
            following, error = self._take()
            with self._changed:
                self._hand_over(following, error)
        self._handed_at = time.monotonic()
        if isinstance(item, BaseException):
            raise item
        return item

    def _wait(self):
        with self._changed:
            self._waiting = True
            self._changed.wait_for(lambda: self._done)
            self._waiting = False
            return self._done.popleft()

    def _run(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._given or self._closing)
            if self._closing:
                return
            try:
                item = self._work(self._given)
            except Exception as raised:  # get() raises it
                item = raised
            # Taken before this one is handed over: who waits for that one would take Python's lock first, and the next
            # inference would begin a fifth of a millisecond later.
            following, error = self._take() if self._waiting else (None, None)
            with self._changed:
                self._done.append(item)
                self._hand_over(following, error)

    def _take(self):
        """Return the next frame where it is to be begun ahead and there is one, else None; and an error, or None."""
        if not (self._always or self._caller_s < self._infer_s):
            return None, None
        try:
            return self._prefetch.get(0), None
        except Exception as error:  # the next get() raises it
            return None, error

    def _hand_over(self, following, error):
        """Let the thread infer the following frame, and get() raise the error, where there are such."""
        self._given = following
        if error is not None:
            self._done.append(error)
        self._changed.notify_all()

    def _work(self, ready):
        # Held until the next: memory that is free by then goes back to the system, and to prepare a frame in new memory
        # took 1.6 ms for 0.9.
        self._held = ready
        start = time.monotonic()
        made = self._infer(ready.made)
        self._infer_s = time.monotonic() - start
        return ready._replace(made=made)

    def close(self):
        """End the threads; the camera stays open."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._prefetch.close()
        self._thread.join(CLOSE_S)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
