"""Reads the next frames, and starts to work on them, while the present one is inferred.

OpenCV and the backends release Python's lock while they work, so threads are enough.  For a live camera only the newest frame
is kept ready: an older one that is still waiting is dropped and counted, so that the label is always of the present scene.
For a file several frames can be worked on at the same time; they are handed out in order.
"""

import collections
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Callable, Deque, NamedTuple, Optional, Set, Union

from ..errors import CameraLost
from ..images.frame import Frame

if TYPE_CHECKING:
    import numpy as np

    from ..capture.camera import Camera

    # A frame that was worked on, is being worked on, or an error that get() raises.
    _Item = Union["Ready", Future["Ready"], Exception]

_LOOK_EVERY_S = 0.25  # how soon the thread notices that it should end
CLOSE_S = 1.0  # how long closing waits for an inference under way
_AHEAD = 2  # frames of a file that are ready, besides those that are worked on, so that no thread waits


class Ready(NamedTuple):
    """A frame that was worked on.

    made    the result of the work
    ms      duration of the work in milliseconds
    """

    frame: Frame
    made: Any
    ms: float


class Prefetch:
    """A thread that reads a camera and starts to work on its frames.  Use it inside ``with``.

    begin       called with a frame's image; whatever it raises is re-raised by get()
    at_once     number of threads that call ``begin``; 1: the thread that reads
    wanted      called with each frame, in order; returns whether to work on it, or to leave it out.  None: all are worked on

    dropped     number of frames that were ready and never fetched
    """

    def __init__(
        self,
        camera: "Camera",
        begin: "Callable[[np.ndarray], object]",
        at_once: int = 1,
        wanted: Optional[Callable[[Frame], bool]] = None,
    ) -> None:
        self._camera, self._begin, self._wanted = camera, begin, wanted
        self._pool = ThreadPoolExecutor(at_once, "frame") if at_once > 1 else None
        self._ahead = _AHEAD + (at_once if at_once > 1 else 0)
        self._running: "Set[Future[Ready]]" = set()
        self._items: "Deque[_Item]" = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def get(self, timeout_s: Optional[float]) -> Optional[Ready]:
        """Return the next frame, or None after ``timeout_s``; raises what reading the camera or the work raised."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout_s):
                return None
            item = self._items.popleft()
            self._changed.notify_all()
        if isinstance(item, BaseException):
            raise item
        return item.result() if isinstance(item, Future) else item

    def _run(self) -> None:
        try:
            while self._wait_for_room():
                try:
                    frame = self._camera.read(_LOOK_EVERY_S)
                except CameraLost as lost:
                    self._put(lost)
                    continue
                if frame is not None and (self._wanted is None or self._wanted(frame)):
                    self._put(self._submit(self._pool, frame) if self._pool else self._work(frame))
        except Exception as error:  # otherwise get() would wait forever
            self._put(error)

    def _submit(self, pool: ThreadPoolExecutor, frame: Frame) -> "Future[Ready]":
        future = pool.submit(self._work, frame)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def _work(self, frame: Frame) -> Ready:
        start = time.perf_counter()
        made = self._begin(frame.image)
        return Ready(frame, made, (time.perf_counter() - start) * 1e3)

    def _wait_for_room(self) -> bool:
        """Wait until another frame of a file may be read; returns False if the thread should end."""
        with self._changed:
            if self._camera.policy == "all":
                self._changed.wait_for(lambda: len(self._items) < self._ahead or self._closing)
            return not self._closing

    def _put(self, item: "_Item") -> None:
        with self._changed:
            waiting = self._items[-1] if self._items else None
            if self._camera.policy == "latest" and isinstance(item, Ready) and isinstance(waiting, Ready):
                self._items.pop()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """End the threads; the camera stays open."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        deadline = time.monotonic() + CLOSE_S
        self._thread.join(CLOSE_S)
        if self._pool:
            for future in list(self._running):
                future.cancel()
            # Waits for work under way, but not forever: an inference can hang.
            hanging = wait(list(self._running), max(deadline - time.monotonic(), 0.0)).not_done
            self._pool.shutdown(wait=not hanging)

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
