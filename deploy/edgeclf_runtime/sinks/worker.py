"""A thread that does what would hold up the stream, behind a queue that cannot grow."""

import contextlib
import os
import queue
import threading


class Worker:
    """Calls ``function(job)`` for each job in turn, in a thread of its own.

    function    must not raise
    size        jobs that may wait
    nice        how much the thread gives way to others that want a processor, 0 to 19 (see nice(1))
    """

    def __init__(self, function, size, nice=0):
        self._function, self._nice = function, nice
        self._closed = False
        self._jobs: "queue.Queue" = queue.Queue(size)
        self._thread = threading.Thread(target=self._work, name="sink", daemon=True)
        self._thread.start()

    def _work(self):
        if self._nice:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, self._nice)  # on Linux: of this thread
        for job in iter(self._jobs.get, None):
            self._function(job)
            self._jobs.task_done()

    @property
    def left(self):
        """The number of jobs that were handed over and are not done."""
        return self._jobs.unfinished_tasks - self._closed

    def offer(self, job, wait=False):
        """Hand over a job; returns False where too many wait already, or waits until there is room."""
        try:
            self._jobs.put(job, block=wait)
        except queue.Full:
            return False
        return True

    def close(self, timeout_s):
        """Let the waiting jobs be done; returns whether they were, and the thread has ended, in time.

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
