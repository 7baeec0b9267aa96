"""Runs the streams of several cameras, each in a thread of its own, so that none waits for another."""

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Iterator, List, Optional, Sequence, Set

from ...device.systemd import Notifier
from ...streaming.run_loop import RunStopped

if TYPE_CHECKING:
    from typing import Dict, Protocol

    from ...streaming.run_loop import Run

    class Stream(Protocol):
        """One camera's stream; ``go`` ends when its source does."""

        name: str
        loop: Run

        def go(self) -> None: ...


_STOP_S = 6.0
"""Longest time that the streams get to end once they have to, less than stop_signals.END_S."""


def go_together(streams: "Sequence[Stream]") -> None:
    """Run streams until each has ended; an error in one of them, or a signal, ends all, and is raised here."""
    ended: "queue.Queue[Optional[BaseException]]" = queue.Queue()

    def work(stream: "Stream") -> None:
        error: Optional[BaseException] = None
        try:
            stream.go()
        except RunStopped:
            pass
        except BaseException as found:
            error = found
        ended.put(error)

    threads = [
        threading.Thread(target=work, args=(stream,), name="stream " + stream.name, daemon=True) for stream in streams
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            error = ended.get()
            if error is not None:
                raise error
    finally:
        for stream in streams:
            stream.loop.stop()
        until = time.monotonic() + _STOP_S
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0.0))


def parts_of(notifier: Notifier, names: Sequence[str]) -> List[Notifier]:
    """Return a Notifier for each of several loops; ``notifier`` reports what is true of all of them together."""
    whole = _Whole(notifier, names)
    return [_Part(whole, name) for name in names]


class _Whole:
    """The reports of several loops: ready when each is, alive while each is, and stopping when the last one stops."""

    def __init__(self, notifier: Notifier, names: Sequence[str]) -> None:
        self.notifier, self._running = notifier, set(names)
        self._lock = threading.Lock()
        self._alive: Set[str] = set()
        self._statuses: "Dict[str, str]" = {}
        self._ready = False

    def status(self, name: str, status: str) -> None:
        """Take the status of one loop; the first one makes it ready."""
        with self._lock:
            self._statuses[name] = status
            if not self._ready and not self._running <= set(self._statuses):
                return
            text = "; ".join("{}: {}".format(*item) for item in sorted(self._statuses.items()))
            (self.notifier.status if self._ready else self.notifier.ready)(text)
            self._ready = True

    def alive(self, name: str) -> None:
        """Report that all loops are alive, once each has been since the last report."""
        with self._lock:
            self._alive.add(name)
            if self._alive >= self._running:
                self._alive.clear()
                self.notifier.alive()

    def stopping(self, name: str) -> None:
        """Report the end of the last loop."""
        with self._lock:
            self._running.discard(name)
            if not self._running:
                self.notifier.stopping()


class _Part(Notifier):
    """The Notifier of one loop among several."""

    def __init__(self, whole: _Whole, name: str) -> None:
        super().__init__({})
        self._whole, self._name = whole, name

    def ready(self, status: str) -> None:
        self._whole.status(self._name, status)

    def status(self, status: str) -> None:
        self._whole.status(self._name, status)

    def alive(self) -> None:
        self._whole.alive(self._name)

    @contextlib.contextmanager
    def busy(self, limit_s: float, words: str) -> Iterator[None]:
        with self._whole.notifier.busy(limit_s, words):
            yield

    def progress(self, limit_s: float) -> None:
        self._whole.notifier.progress(limit_s)

    def stopping(self) -> None:
        self._whole.stopping(self._name)
