"""Runs the server's inferences in threads of their own, behind a queue of limited length.

Each thread takes a request, or several of the same model if its backend infers them faster together; decodes and
preprocesses; and infers.  Nothing waits for a batch to fill: only requests that wait already are joined.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgeclf_runtime.classify.classifier import Inferred

from ...errors import BackendError
from .metrics import Metrics
from .models import Served
from .refusal import Refusal, too_busy

STUCK_S = 30.0
CALM_S = 1.0
"""Time without a refusal after which the queue may be long again."""
_END_S = 0.5


class Task(Protocol):
    """A request for an inference."""

    def prepare(self, served: Served) -> np.ndarray:
        """Return the model's input, float32 [N, height, width, 3]."""

    def finish(self, served: Served, inferred: Inferred) -> object:
        """Return the answer for the model's outputs."""


@dataclass(eq=False)
class _Job:
    served: Served
    task: Task
    answer: Future[object] = field(default_factory=Future)
    came: float = field(default_factory=time.perf_counter)


class Engine:
    """Threads that carry out tasks.

    threads: number of them.  limit: number of tasks that may wait.

    A burst may fill the queue.  While more comes than can be done, a long queue would only make every answer late, so as long as
    requests are refused, one task for each thread may wait.
    """

    def __init__(self, threads: int, limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self._metrics = metrics
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._refused_at = -math.inf
        self._threads = [
            threading.Thread(target=self._work, name=f"inference-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of tasks in the queue."""
        return len(self._waiting)

    def check_moves(self) -> None:
        """Raise Refusal with status 503 if a task has waited for STUCK_S: an inference hangs, or there is far too much to do."""
        with self._changed:
            stuck = bool(self._waiting) and time.perf_counter() - self._waiting[0].came > STUCK_S
        if stuck:
            raise Refusal(
                503, f"a request has waited for {STUCK_S:.0f} s; an inference may hang, start the server again"
            )

    def check_room(self) -> None:
        """Raise Refusal with status 503 if the queue is full, or no longer short while others are refused."""
        now, waiting = time.perf_counter(), len(self._waiting)
        overloaded = now - self._refused_at < CALM_S
        limit = min(self.limit, len(self._threads)) if overloaded else self.limit
        if waiting >= limit:
            self._refused_at = now
            raise too_busy(f"{waiting} requests are waiting, and no more are taken")

    def submit(self, served: Served, task: Task) -> Future[object]:
        """Return the future answer of a task; raises Refusal with status 503 if the queue is full."""
        job = _Job(served, task)
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
                jobs = self._take()
            # Nobody waits for the answer of a client that is gone, or of a server that ends.
            jobs = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if jobs:
                self._run(jobs)

    def _take(self) -> list[_Job]:
        """Return the next job, and those behind it that are inferred with it; other threads keep their share."""
        share = -(-len(self._waiting) // len(self._threads))
        jobs = [self._waiting.popleft()]
        while self._waiting and len(jobs) < min(share, jobs[0].served.joined):
            if self._waiting[0].served is not jobs[0].served:
                break
            jobs.append(self._waiting.popleft())
        return jobs

    def _run(self, jobs: list[_Job]) -> None:
        served, start = jobs[0].served, time.perf_counter()
        prepared: list[tuple[_Job, np.ndarray]] = []
        for job in jobs:
            self._metrics.stage(served.name, "wait", (start - job.came) * 1e3)
            try:
                prepared.append((job, job.task.prepare(served)))
            except Exception as error:
                job.answer.set_exception(error)
        try:
            inferred = infer(served, [batch for _, batch in prepared])
            served.failed = False
        except Exception as error:
            served.failed = isinstance(error, BackendError)
            for job, _ in prepared:
                job.answer.set_exception(error)
            return
        for (job, _), part in zip(prepared, inferred, strict=True):
            self._metrics.stage(served.name, "inference", part.ms)
            try:
                job.answer.set_result(job.task.finish(served, part))
            except Exception as error:
                job.answer.set_exception(error)

    def close(self) -> None:
        """Cancel the tasks that wait, and end the threads; those under way are waited for half a second."""
        with self._changed:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in waiting:
            job.answer.cancel()
        deadline = time.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def infer(served: Served, batches: list[np.ndarray]) -> list[Inferred]:
    """Return the model's outputs for each of several batches, which are inferred together; ms: each one's share."""
    if not batches:
        return []
    images = np.concatenate(batches) if len(batches) > 1 else batches[0]
    parts = [served.classifier.infer(images[at : at + served.most]) for at in range(0, len(images), served.most)]
    logits = np.concatenate([part.logits for part in parts])
    features = [part.features for part in parts if part.features is not None]
    known = np.concatenate(features) if len(features) == len(parts) else None
    ms, by, found, at = sum(part.ms for part in parts) / len(images), parts[-1].by, [], 0
    for batch in batches:
        rows = slice(at, at + len(batch))
        found.append(Inferred(logits[rows], ms * len(batch), by, None if known is None else known[rows]))
        at += len(batch)
    return found
