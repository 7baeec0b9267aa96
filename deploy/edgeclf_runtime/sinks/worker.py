"""A thread that does what would hold up the stream, behind a queue that cannot grow."""

import queue
import threading


class Worker:
    """Calls ``function(job)`` for each job in turn, in a thread of its own.

    function    must not raise
    size        jobs that may wait
    """

    def __init__(self, function, size):
        self._function = function
        self._closed = False
        self._jobs: "queue.Queue" = queue.Queue(size)
        self._thread = threading.Thread(target=self._work, name="sink", daemon=True)
        self._thread.start()

    def _work(self):
        for job in iter(self._jobs.get, None):
            self._function(job)

    def offer(self, job, wait=False):
        """Hand over a job; returns False where too many wait already, or waits until there is room."""
        try:
            self._jobs.put(job, block=wait)
        except queue.Full:
            return False
        return True

    def close(self, timeout_s):
        """Let the waiting jobs be done; returns whether they were, and the thread has ended, in time."""
        try:
            if not self._closed:
                self._jobs.put(None, timeout=timeout_s)
        except queue.Full:
            return False
        self._closed = True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()
