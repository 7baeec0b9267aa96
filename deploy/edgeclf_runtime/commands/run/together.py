"""Runs the streams of several cameras, each in a thread of its own, so that none waits for another."""

import contextlib
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Callable, Dict, Iterable, Iterator, Optional, Sequence, Set, Tuple

from ...device.systemd import Notifier
from ...streaming.run_loop import RunStopped

if TYPE_CHECKING:
    from typing import Protocol

    from ...streaming.run_loop import Run

    class Stream(Protocol):
        """One camera's stream; ``go`` ends when its source does."""

        name: str
        loop: Run

        def go(self) -> None: ...


_log = logging.getLogger(__name__)
_STOP_S = 6.0
"""Longest time that the streams get to end once they have to, less than stop_signals.END_S."""
_LOOK_EVERY_S = 0.25


class Together:
    """Streams side by side; an error in one of them, or a signal, ends all."""

    def __init__(self) -> None:
        self._ended: "queue.Queue[Tuple[Stream, Optional[BaseException]]]" = queue.Queue()
        self._threads: Dict[int, threading.Thread] = {}
        self._streams: "Dict[int, Stream]" = {}
        self._stopped: Set[int] = set()

    def start(self, stream: "Stream") -> None:
        """Let a stream go."""
        thread = threading.Thread(target=self._work, args=(stream,), name="stream " + stream.name, daemon=True)
        self._threads[id(stream)], self._streams[id(stream)] = thread, stream
        thread.start()

    def start_all(self, streams: "Iterable[Stream]") -> None:
        """Let several streams go."""
        for stream in streams:
            self.start(stream)

    def _work(self, stream: "Stream") -> None:
        error: Optional[BaseException] = None
        try:
            stream.go()
        except RunStopped:
            pass
        except BaseException as found:
            error = found
        self._ended.put((stream, error))

    def wait(self, look: Optional[Callable[[], object]] = None) -> None:
        """Wait until each stream has ended, and raise the first error.

        look        is called several times a second; it may start and stop streams
        """
        while self._threads:
            try:
                self._forget(*self._ended.get(timeout=_LOOK_EVERY_S if look else None))
            except queue.Empty:
                assert look is not None
                look()

    def _forget(self, stream: "Stream", error: Optional[BaseException]) -> None:
        """Drop a stream that has ended, and raise its error, or log it if the stream was stopped."""
        self._threads.pop(id(stream), None)
        self._streams.pop(id(stream), None)
        stopped = id(stream) in self._stopped
        self._stopped.discard(id(stream))  # another stream may get this id
        if error is not None and not stopped:
            raise error
        if error is not None:
            _log.warning("%s ended with an error: %s", stream.name or "the camera", error)

    @property
    def running(self) -> bool:
        """True if a stream has not ended."""
        return any(thread.is_alive() for thread in self._threads.values())

    def stop(self, streams: "Sequence[Stream]") -> None:
        """Stop some streams, and wait until they have ended, at most _STOP_S."""
        self._stopped.update(map(id, streams))
        for stream in streams:
            stream.loop.stop()
        until = time.monotonic() + _STOP_S
        for thread in [self._threads[id(stream)] for stream in streams if id(stream) in self._threads]:
            thread.join(max(until - time.monotonic(), 0.0))

    def end(self) -> None:
        """Stop every stream."""
        self.stop(list(self._streams.values()))


def go_together(streams: "Iterable[Stream]", look: "Optional[Callable[[Together], object]]" = None) -> None:
    """Run streams until each has ended; an error in one of them, or a signal, ends all, and is raised here.

    look        is called several times a second with the Together
    """
    together = Together()
    try:
        together.start_all(streams)
        together.wait(None if look is None else lambda: look(together))
    finally:
        together.end()


class Parts:
    """Notifiers of several loops; ``notifier`` reports what is true of all of them together."""

    def __init__(self, notifier: Notifier) -> None:
        self._whole = _Whole(notifier)

    def add(self, name: str) -> Notifier:
        """Return the Notifier of another loop."""
        self._whole.add(name)
        return _Part(self._whole, name)

    def drop(self, name: str) -> None:
        """Expect no reports of a loop that has not begun."""
        self._whole.stopping(name)

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Report that loops are exchanged: that none is left during the block is not the end."""
        with self._whole.held():
            yield


class _Whole:
    """The reports of several loops: ready when each is, alive while each is, and stopping when the last one stops."""

    def __init__(self, notifier: Notifier) -> None:
        self.notifier = notifier
        self._running: Set[str] = set()
        self._lock = threading.Lock()
        self._alive: Set[str] = set()
        self._statuses: Dict[str, str] = {}
        self._ready = self._held = False

    def add(self, name: str) -> None:
        """Expect the reports of another loop."""
        with self._lock:
            self._running.add(name)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """During the block, report no end; then, that all is ready again."""
        self.notifier.reloading()
        self._held = True
        try:
            yield
        finally:
            with self._lock:
                self._held = False
                self._statuses = {name: text for name, text in self._statuses.items() if name in self._running}
                if self._ready:
                    self.notifier.ready(self._text())

    def _text(self) -> str:
        return "; ".join("{}: {}".format(*item) if item[0] else item[1] for item in sorted(self._statuses.items()))

    def status(self, name: str, status: str) -> None:
        """Take the status of one loop; the first one makes it ready."""
        with self._lock:
            self._statuses[name] = status
            if not self._ready and not self._running <= set(self._statuses):
                return
            (self.notifier.status if self._ready else self.notifier.ready)(self._text())
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
            if not self._running and not self._held:
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
