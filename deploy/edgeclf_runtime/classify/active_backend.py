"""The backend in use, shared by threads: they enter and leave it, replace it if it fails, and the last to leave frees it."""

import collections
import logging
import threading
import time
from typing import TYPE_CHECKING, Deque, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..device import systemd
from ..errors import BackendError
from ..runners.base import Runner, close_quietly
from .recovery import Recovery
from .rejection import Rejection
from .selection import OPEN_TIMEOUT_S

if TYPE_CHECKING:
    from ..bundle.open_bundle import Model
    from .selection import Selection

CLOSE_S = 0.5
_log = logging.getLogger(__name__)


class InUse(NamedTuple):
    """The model in use, and the settings for its logits; see Classifier."""

    runner: Runner
    model: str
    temperature: float
    rejection: Rejection

    def __str__(self) -> str:
        return "{} on {}".format(self.model, self.runner.backend)


class Fallback(NamedTuple):
    """A better backend that failed, and the one that took over.

    failed      model and backend that failed: "int8 on tensorrt"
    by          model and backend that took over
    reason      why it failed
    since       seconds since 1970
    """

    failed: str
    by: str
    reason: str
    since: float

    def __str__(self) -> str:
        return "{} is replaced by {}: {}".format(self.failed, self.by, self.reason)


class Backends:
    """The InUse that several threads infer with at the same time.

    A thread enters it, and always leaves it.  If its runner is not ``concurrent``, threads enter one at a time, in the order
    in which they came: none can keep another waiting by inferring again and again.  When it fails, one of the threads that
    saw it opens the next backend, and the others wait; the failed one is closed when the last thread has left it.

    first       the first InUse
    selection   an object with open_next(), and perhaps open_better(); see Selection.  None: nothing takes over
    rejections  the models' Rejections, by name; a model without one has only its own threshold
    """

    def __init__(
        self,
        first: InUse,
        selection: "Optional[Selection]" = None,
        rejections: Optional[Mapping[str, Rejection]] = None,
    ) -> None:
        self.in_use = first
        self._rejections = dict(rejections or {}, **{first.model: first.rejection})
        self._selection = selection
        self._recovery: Optional[Recovery] = None
        if selection is not None and hasattr(selection, "open_better"):
            self._recovery = Recovery(selection, self._return_to)
        self._changed = threading.Condition()
        self._inside: Dict[int, int] = {}  # by id() of a runner: number of threads in it
        self._turns: Deque[object] = collections.deque()  # of the threads that wait in enter()
        self._retired: Dict[int, Runner] = {}  # by id(): runners that no thread may enter, and that are not closed yet
        self._failures: List[Fallback] = []
        self._replacing = self._closed = False

    @property
    def fallback(self) -> Optional[Fallback]:
        """The latest Fallback whose failed backend is not back, or None."""
        failures = self._failures
        return failures[-1] if failures else None

    def rejection(self, model: str) -> Rejection:
        """Return the Rejection of a model that is or was in use."""
        in_use = self.in_use
        return in_use.rejection if model == in_use.model else self._rejections.get(model, in_use.rejection)

    def _in_use(self, model: "Model", runner: Runner) -> InUse:
        rejection = self._rejections.setdefault(model.name, Rejection(model.threshold))
        return InUse(runner, model.name, model.temperature, rejection)

    def check_open(self) -> None:
        """Raise BackendError if this was closed."""
        if self._closed:
            raise BackendError("the classifier is closed; open another one with Classifier.open()")

    def enter(self) -> InUse:
        """Wait until this thread may infer, and return the InUse; leave() must follow.  Raises BackendError if closed."""
        with self._changed:
            if self._turns or not self._may_enter():
                self._wait_for_turn()
            self.check_open()
            in_use = self.in_use
            key = id(in_use.runner)
            self._inside[key] = self._inside.get(key, 0) + 1
            return in_use

    def _wait_for_turn(self) -> None:
        """Wait until this thread may enter, and those that waited before it have entered.  The lock is held."""
        turn = object()
        self._turns.append(turn)
        try:
            self._changed.wait_for(lambda: self._closed or (self._turns[0] is turn and self._may_enter()))
        finally:
            self._turns.remove(turn)
            self._changed.notify_all()  # the next one may enter, too, if the runner is concurrent

    def _may_enter(self) -> bool:
        runner = self.in_use.runner
        return self._closed or (not self._replacing and (runner.concurrent or id(runner) not in self._inside))

    def leave(self, in_use: InUse) -> None:
        """End this thread's use of what enter() returned."""
        key = id(in_use.runner)
        with self._changed:
            others = self._inside[key] - 1
            if others:
                self._inside[key] = others
            else:
                del self._inside[key]
            last = not others and key in self._retired
            self._changed.notify_all()
        if last:
            self._free(in_use.runner)

    def replace(self, failed: InUse, error: BackendError) -> None:
        """Replace an InUse that failed by the next model and backend; returns once another is in use.

        Raises BackendError with every reason, and keeps the present one, if none is left; raises BackendError if closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._replacing)
            self.check_open()
            if failed is not self.in_use:
                return  # another thread has replaced it
            selection = self._selection
            if selection is None:
                raise error
            self._replacing = True
        taken_over = None
        try:
            taken_over = self._open_next(selection, failed, error)
        finally:
            self._end_replacing(failed, error, taken_over)
        self.check_open()

    def _open_next(self, selection: "Selection", failed: InUse, error: BackendError) -> "Tuple[Model, Runner]":
        try:
            # Not inside open_next(): attempts in the background must not hide a hanging program from systemd.
            with systemd.busy(OPEN_TIMEOUT_S, "{} failed; opening another".format(failed)):
                return selection.open_next()
        except BackendError as none_left:
            self.check_open()
            before = ["\n{}: {}".format(one.failed, one.reason) for one in self._failures]
            before = ["\nearlier failures:"] + before if before else []
            raise BackendError("{}\n{}{}".format(error, none_left, "".join(before)))

    def _end_replacing(self, failed: InUse, error: BackendError, taken_over: "Optional[Tuple[Model, Runner]]") -> None:
        unused = None
        with self._changed:
            self._replacing = False
            if taken_over is not None:
                following = self._in_use(*taken_over)
                if not self._closed:
                    self._failures = self._failures + [Fallback(str(failed), str(following), str(error), time.time())]
                unused = self._switch(following)
            self._changed.notify_all()
        if taken_over is not None:
            self._free(unused)
            if not self._closed:
                _log.error("%s is replaced by %s: %s", failed, following, error)
            if self._recovery is not None:
                self._recovery.begin()

    def _return_to(self, index: int, model: "Model", runner: Runner) -> None:
        """Use a better backend that works again."""
        following = self._in_use(model, runner)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._replacing)
            if not self._closed and self._selection is not None:
                self._selection.use(index)
                names = [one.failed for one in self._failures]
                self._failures = self._failures[: names.index(str(following)) if str(following) in names else 0]
            before, unused = self.in_use, self._switch(following)
            self._changed.notify_all()
        self._free(unused)
        if not self._closed:
            _log.warning("%s works again and replaces %s", following, before)

    def _switch(self, following: InUse) -> Optional[Runner]:
        """Switch to another InUse, unless this is closed; returns a runner to free now, or None.  The lock is held."""
        if self._closed:
            self._retired[id(following.runner)] = following.runner
            return following.runner
        before, self.in_use = self.in_use, following
        return self._retire(before.runner)

    def _retire(self, runner: Runner) -> Optional[Runner]:
        """Let no more threads enter a runner; returns it if none is inside, or else the last one frees it.  The lock is held."""
        self._retired[id(runner)] = runner
        return None if id(runner) in self._inside else runner

    def _free(self, runner: Optional[Runner]) -> None:
        """Close a retired runner that no thread is in, if there is one."""
        if runner is None:
            return
        close_quietly(runner)
        with self._changed:
            self._retired.pop(id(runner), None)
            self._changed.notify_all()

    def close(self) -> None:
        """Let no more threads in, and free the runner; waits CLOSE_S for those inside.

        If they take longer, the last one frees it.  A thread that hangs keeps the runner: freeing it would crash.
        """
        unused = None
        with self._changed:
            if not self._closed:
                self._closed = True
                unused = self._retire(self.in_use.runner)
                self._changed.notify_all()
        if self._recovery is not None:
            self._recovery.stop()
        self._free(unused)
        deadline = time.monotonic() + CLOSE_S
        with self._changed:
            freed = self._changed.wait_for(lambda: not self._retired, CLOSE_S)
        if not freed:
            _log.warning("%s is not closed, because an inference does not return", self.in_use)
        if self._recovery is not None:
            self._recovery.join(max(0.0, deadline - time.monotonic()))
