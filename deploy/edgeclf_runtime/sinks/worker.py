"""Worker, a thread for slow jobs that would hold up the stream, behind a bounded queue."""

import contextlib
import os
import queue
import threading
from typing import Callable, Generic, Optional, TypeVar

_Job = TypeVar("_Job")


class Worker(Generic[_Job]):
    """Calls ``function(job)`` for each job in turn, in its own thread.

    function    must not raise
    size        number of jobs that may wait
    nice        how far the thread yields the processor to others, 0 to 19 (see nice(1))
    """

    def __init__(self, function: Callable[[_Job], object], size: int, nice: int = 0) -> None:
        self._function, self._nice = function, nice
        self._closed = False
        self._jobs: "queue.Queue[Optional[_Job]]" = queue.Queue(size)
        self._thread = threading.Thread(target=self._work, name="sink", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        if self._nice:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, self._nice)  # on Linux, of this thread only
        for job in iter(self._jobs.get, None):
            self._function(job)
            self._jobs.task_done()

    @property
    def left(self) -> int:
        """The number of jobs that are not done yet."""
        return self._jobs.unfinished_tasks - self._closed

    def offer(self, job: _Job, wait: bool = False) -> bool:
        """Add a job; returns False if too many wait already, or with ``wait`` blocks until there is room."""
        try:
            self._jobs.put(job, block=wait)
        except queue.Full:
            return False
        return True

    def close(self, timeout_s: Optional[float]) -> bool:
        """Finish the waiting jobs; returns whether they are done, and the thread has ended, in time.

        timeout_s   None waits as long as it takes
        """
        try:
            if not self._closed:
                self._jobs.put(None, timeout=timeout_s)
        except queue.Full:
            return False
        self._closed = True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()
