"""Runs the server's inferences in threads of their own, behind a queue of limited length.

Each thread takes the next request, decodes and preprocesses its image, and infers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from edgeclf_runtime.classify.classifier import Inferred

from ...errors import BackendError
from .models import Served
from .refusal import too_busy

Prepare = Callable[[Served], np.ndarray]
Finish = Callable[[Served, Inferred, float], object]

MOST_IMAGES = 8
"""Of one inference: more take more memory, and let others wait longer."""


@dataclass(eq=False)
class Job:
    """A request for an inference.

    prepare: returns the model's input, float32 [N, height, width, 3].  finish: makes the answer of the outputs and of the
    milliseconds that prepare took.
    """

    served: Served
    prepare: Prepare
    finish: Finish
    answer: Future[object] = field(default_factory=Future)
    came: float = field(default_factory=time.perf_counter)

    def run(self) -> object:
        """Return the answer."""
        start = time.perf_counter()
        batch = self.prepare(self.served)
        prepare_ms = (time.perf_counter() - start) * 1e3
        return self.finish(self.served, infer(self.served, batch), prepare_ms)


def infer(served: Served, batch: np.ndarray) -> Inferred:
    """Return the model's output for a batch of any size, inferred in parts; ms: of all parts together."""
    parts = [served.classifier.infer(batch[at : at + MOST_IMAGES]) for at in range(0, len(batch), MOST_IMAGES)]
    if len(parts) == 1:
        return parts[0]
    features = [part.features for part in parts if part.features is not None]
    return Inferred(
        np.concatenate([part.logits for part in parts]),
        sum(part.ms for part in parts),
        parts[-1].by,
        np.concatenate(features) if len(features) == len(parts) else None,
    )


class Engine:
    """Threads that carry out jobs.

    threads: number of them.  limit: number of jobs that may wait.
    """

    def __init__(self, threads: int, limit: int) -> None:
        self.limit = limit
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"inference-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of jobs in the queue."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raise Refusal with status 503 if the queue is full."""
        if len(self._waiting) >= self.limit:
            raise too_busy(f"{self.limit} requests are waiting, and no more are taken")

    def submit(self, served: Served, prepare: Prepare, finish: Finish) -> Future[object]:
        """Return the future answer of a job; raises Refusal with status 503 if the queue is full."""
        job = Job(served, prepare, finish)
        with self._changed:
            self.check_room()
            self._waiting.append(job)
            self._changed.notify()
        return job.answer

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._waiting.popleft()
            # Of a client that is gone, or of a server that ends, nobody waits for the answer.
            if job.answer.set_running_or_notify_cancel():
                self._answer(job)

    @staticmethod
    def _answer(job: Job) -> None:
        try:
            answer = job.run()
        except Exception as error:
            job.served.failed = isinstance(error, BackendError)
            job.answer.set_exception(error)
        else:
            job.served.failed = False
            job.answer.set_result(answer)

    def close(self) -> None:
        """Cancel the jobs that wait, and end the threads; those under way are waited for half a second."""
        with self._changed:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in waiting:
            job.answer.cancel()
        deadline = time.monotonic() + 0.5
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
