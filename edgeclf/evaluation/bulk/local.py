"""The local engine: a process for each processor, each with its own model; one that dies is started again."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue

from edgeclf_runtime.device.child_process import start_child
from edgeclf_runtime.device.machine import cores

from ...display.json_file import json_line
from ...display.progress import say
from ...errors import EdgeclfError
from .listing import Item
from .unfinished import Unfinished

DEATHS = 3
"""Processes that may die at the same image; one that is killed from outside dies at any."""


def classify_here(work: Unfinished, parts: Iterable[int], workers: int | None) -> Iterator[int]:
    """Classify parts in processes of this machine, by default one for each processor; yield the number of each that is done.

    Raises EdgeclfError if DEATHS processes died at the same image.
    """
    orders: SimpleQueue[int] = SimpleQueue()
    for part in parts:
        orders.put(part)
    results: SimpleQueue[int | BaseException | None] = SimpleQueue()
    crew = [_Worker(work, orders, results) for _ in range(min(workers or cores(), orders.qsize()))]
    try:
        for worker in crew:
            worker.start()
        left = len(crew)
        while left:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                left -= 1
            else:
                yield result
    finally:
        for worker in crew:
            worker.end()


class _Worker(threading.Thread):
    """A thread with a process, to which it gives one part after the other."""

    def __init__(
        self, work: Unfinished, orders: SimpleQueue[int], results: SimpleQueue[int | BaseException | None]
    ) -> None:
        super().__init__(daemon=True)
        self._work, self._orders, self._results = work, orders, results
        self._child: subprocess.Popen[bytes] | None = None
        self._ended, self._starting = False, threading.RLock()

    def run(self) -> None:
        end: BaseException | None = None
        try:
            with suppress(Empty):
                while not self._ended:
                    self._do(self._orders.get_nowait())
        except BaseException as error:
            end = error
        self._close()
        self._results.put(end)

    def end(self) -> None:
        """Kill the process; the part that it is at is lost."""
        with self._starting:
            self._ended = True
            if self._child is not None:
                self._child.kill()
                self._child.wait()

    def _do(self, part: int) -> None:
        deaths: Counter[int] = Counter()
        while True:
            with self._starting:
                if self._ended:
                    return
                child = self._child = self._child or self._begun()
            finished, index = _order(child, part)
            if finished:
                self._results.put(part)
                return
            code = self._close()
            deaths[index] += 1
            if not self._ended:
                _report(list(self._work.items(part)), index, code, deaths[index])

    def _begun(self) -> subprocess.Popen[bytes]:
        # In a session of its own: Ctrl-C in a terminal is for this process, which ends it.
        child = start_child(
            "edgeclf.evaluation.bulk.worker",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        _send(child, json_line(str(self._work.path)))
        return child

    def _close(self) -> int:
        """End the process and close its pipes; return its exit code.  Only the thread does so, since it reads from one."""
        with self._starting:
            child, self._child = self._child, None
        if child is None:
            return 0
        child.kill()
        with suppress(OSError), child:  # waits for it
            pass
        return child.returncode


def _order(child: subprocess.Popen[bytes], part: int) -> tuple[bool, int]:
    """Have a process classify a part; return whether it lived to do so, and the index of the image that it read last."""
    index = 0
    _send(child, b"%d\n" % part)
    for line in child.stdout or ():
        if line == b"done\n":
            return True, index
        if line.startswith(b'"'):
            raise EdgeclfError(json.loads(line))
        index = int(line)
    return False, index


def _send(child: subprocess.Popen[bytes], line: bytes) -> None:
    # If it is dead, the answer that does not come shows it.
    with suppress(OSError):
        child.stdin.write(line)  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]


def _report(items: list[Item], index: int, code: int, deaths: int) -> None:
    """Warn that a process has died; EdgeclfError if too many did so at the same image."""
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    if deaths < DEATHS:
        say(f"warning: a process died {how} at {items[index].name}; another one goes on")
        return
    raise EdgeclfError(
        f"{deaths} processes died at {items[index].name}, the last {how} (they were at the images from {items[0].name} to "
        f"{items[-1].name}): take that image out if it is the cause, or give each process more memory by fewer --workers"
    )
