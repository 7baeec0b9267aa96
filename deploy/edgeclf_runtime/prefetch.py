"""Reading and preprocessing the next frame while the present one is inferred.

OpenCV and the backends let go of Python's lock while they work, so a thread is enough.  Of a
live camera only the newest frame is kept ready: one that waited while a newer came is dropped
and counted, so that the label is always of what is there now.
"""

import collections
import threading
import time
from typing import Any, Deque, NamedTuple, Optional

from .errors import CameraLost
from .frames import Frame

_LOOK_EVERY_S = 0.25  # how soon the thread sees that it is to end
_AHEAD = 2  # frames of a file that are kept ready


class Ready(NamedTuple):
    """A frame, and the classifier's input made of it."""

    frame: Frame
    batch: Any
    preprocess_ms: float


class Prefetch:
    """A thread that reads a camera and prepares its frames for a classifier.  Used inside ``with``.

    dropped     frames that were ready and never fetched
    """

    def __init__(self, camera, prepare):
        self._camera, self._prepare = camera, prepare
        self._items: Deque[Any] = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def get(self, timeout_s) -> Optional[Ready]:
        """Return the next frame, or None after ``timeout_s``; raises what reading the camera raised."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._items, timeout_s):
                return None
            item = self._items.popleft()
            self._changed.notify_all()
        if isinstance(item, BaseException):
            raise item
        return item

    def _run(self):
        try:
            while not self._closing:
                try:
                    frame = self._camera.read(_LOOK_EVERY_S)
                except CameraLost as lost:
                    self._put(lost)
                    continue
                if frame is not None:
                    start = time.perf_counter()
                    batch = self._prepare(frame.image)
                    self._put(Ready(frame, batch, (time.perf_counter() - start) * 1e3))
        except Exception as error:  # whoever waits in get() would wait for ever
            self._put(error)

    def _put(self, item):
        with self._changed:
            if self._camera.policy == "latest":
                if self._items and isinstance(item, Ready) and isinstance(self._items[-1], Ready):
                    self._items.pop()
                    self.dropped += 1
            else:
                self._changed.wait_for(lambda: len(self._items) < _AHEAD or self._closing)
            self._items.append(item)
            self._changed.notify_all()

    def close(self):
        """End the thread; the camera stays open."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(2.0)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
