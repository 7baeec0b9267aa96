"""Reading the next frames, and beginning to work on them, while the present one is inferred.

OpenCV and the backends let go of Python's lock while they work, so threads are enough.  Of a
live camera only the newest frame is kept ready: one that waited while a newer came is dropped
and counted, so that the label is always of what is there now.  Of a file several frames can be
worked on at the same time; they are handed out in their order.
"""

import collections
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Deque, NamedTuple, Optional, Set

from ..capture.base import Frame
from ..errors import CameraLost

_LOOK_EVERY_S = 0.25  # how soon the thread sees that it is to end
CLOSE_S = 1.0  # how long closing waits for an inference under way
_AHEAD = 2  # frames of a file, beside those that are worked on; with none, threads waited a twentieth of their time


class Ready(NamedTuple):
    """A frame, what was made of it, and the milliseconds that it took."""

    frame: Frame
    made: Any
    ms: float


class Prefetch:
    """A thread that reads a camera, and begins to work on its frames.  Used inside ``with``.

    begin       is called with a frame's image; it may raise nothing but what get() is to raise
    at_once     how many threads call it; 1 is the one that reads

    dropped     frames that were ready and never fetched
    """

    def __init__(self, camera, begin, at_once=1):
        self._camera, self._begin = camera, begin
        self._pool = ThreadPoolExecutor(at_once, "frame") if at_once > 1 else None
        self._ahead = _AHEAD + (at_once if at_once > 1 else 0)
        self._running: Set[Future] = set()
        self._items: Deque[Any] = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def get(self, timeout_s) -> Optional[Ready]:
        """Return the next frame, or None after ``timeout_s``; raises what reading the camera or the work raised."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._items, timeout_s):
                return None
            item = self._items.popleft()
            self._changed.notify_all()
        if isinstance(item, BaseException):
            raise item
        return item.result() if isinstance(item, Future) else item

    def _run(self):
        try:
            while self._wait_for_room():
                try:
                    frame = self._camera.read(_LOOK_EVERY_S)
                except CameraLost as lost:
                    self._put(lost)
                    continue
                if frame is not None:
                    self._put(self._submit(self._pool, frame) if self._pool else self._work(frame))
        except Exception as error:  # whoever waits in get() would wait for ever
            self._put(error)

    def _submit(self, pool, frame):
        future = pool.submit(self._work, frame)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def _work(self, frame):
        start = time.perf_counter()
        made = self._begin(frame.image)
        return Ready(frame, made, (time.perf_counter() - start) * 1e3)

    def _wait_for_room(self):
        """Wait until one more frame of a file may be read; returns whether to go on."""
        with self._changed:
            if self._camera.policy == "all":
                self._changed.wait_for(lambda: len(self._items) < self._ahead or self._closing)
            return not self._closing

    def _put(self, item):
        with self._changed:
            waiting = self._items[-1] if self._items else None
            if self._camera.policy == "latest" and isinstance(item, Ready) and isinstance(waiting, Ready):
                self._items.pop()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def close(self):
        """End the threads; the camera stays open."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        deadline = time.monotonic() + CLOSE_S
        self._thread.join(CLOSE_S)
        if self._pool:
            for future in list(self._running):
                future.cancel()
            # What is under way is waited for, but not for ever: an inference can hang.
            hanging = wait(list(self._running), max(deadline - time.monotonic(), 0.0)).not_done
            self._pool.shutdown(wait=not hanging)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
