"""Runs inference one frame ahead of the caller, in its own thread.

Deciding, smoothing and writing take a Jetson's Python about as long as a small model takes its GPU, and the backends release
Python's lock while they work.  So if the camera is faster than the classifier, the next inference runs in a thread.  If it is
slower, no frame is waiting, and the caller runs the inference itself: handing it over would make the label older.
"""

import collections
import math
import threading
import time
from typing import Any, Callable, Deque, Optional, Tuple, Union

from .prefetch import CLOSE_S, Prefetch, Ready


class Ahead:
    """Runs inference on the frames of a Prefetch, one ahead of the caller.  Use it inside ``with``; closes the Prefetch too.

    infer       called with what the Prefetch made, by one thread at a time; its result replaces that
    always      start the next inference at once, as is right for a file.  Otherwise only while the caller returns sooner than
                an inference ends, because a result that waits for its caller would be of an older scene
    """

    def __init__(self, prefetch: Prefetch, infer: Callable[[Any], object], always: bool = False) -> None:
        self._prefetch, self._infer, self._always = prefetch, infer, always
        self._given: Optional[Ready] = None  # the frame of the thread; None while it is idle
        self._held: Optional[Ready] = None  # the last frame that was inferred
        self._done: Deque[Union[Ready, Exception]] = collections.deque()  # inferred frames, and errors
        self._changed = threading.Condition()
        self._waiting = self._closing = False
        self._handed_at = -math.inf
        self._caller_s, self._infer_s = math.inf, 0.0
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """The number of frames that were ready and never inferred."""
        return self._prefetch.dropped

    def get(self, timeout_s: Optional[float]) -> Optional[Ready]:
        """Return the next frame with its inference, or None if there was no frame for ``timeout_s``.

        There is no limit for the inference itself, so that one that hangs is noticed by the caller's watchdog.  Raises what
        reading the camera, preparing or inferring raised.
        """
        item: Union[Ready, Exception, None]
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
        if isinstance(item, Exception):
            raise item
        return item

    def _wait(self) -> Union[Ready, Exception]:
        with self._changed:
            self._waiting = True
            self._changed.wait_for(lambda: bool(self._done))
            self._waiting = False
            return self._done.popleft()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._given is not None or self._closing)
            if self._closing or self._given is None:
                return
            try:
                item: Union[Ready, Exception] = self._work(self._given)
            except Exception as raised:  # get() raises it
                item = raised
            # Taken before this one is handed over: the caller that waits for this one would take Python's lock first, and
            # delay the next inference.
            following, error = self._take() if self._waiting else (None, None)
            with self._changed:
                self._done.append(item)
                self._hand_over(following, error)

    def _take(self) -> Tuple[Optional[Ready], Optional[Exception]]:
        """Return the next frame if it should be started ahead and is ready, else None; and an error, or None."""
        if not (self._always or self._caller_s < self._infer_s):
            return None, None
        try:
            return self._prefetch.get(0), None
        except Exception as error:  # the next get() raises it
            return None, error

    def _hand_over(self, following: Optional[Ready], error: Optional[Exception]) -> None:
        """Give the thread the following frame, and get() the error, if there are any."""
        self._given = following
        if error is not None:
            self._done.append(error)
        self._changed.notify_all()

    def _work(self, ready: Ready) -> Ready:
        # Held until the next frame: freed memory would go back to the system, and preparing a frame in new memory takes
        # longer.
        self._held = ready
        start = time.monotonic()
        made = self._infer(ready.made)
        self._infer_s = time.monotonic() - start
        return ready._replace(made=made)

    def close(self) -> None:
        """End the threads; the camera stays open."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._prefetch.close()
        self._thread.join(CLOSE_S)

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
