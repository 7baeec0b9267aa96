"""The backend in use, shared by threads: entered, left, replaced where it fails, and freed by the last one to leave.

Knows nothing of images and labels.
"""

import logging
import threading
import time
from typing import Any, Dict, List, NamedTuple, Optional

from ..device import systemd
from ..errors import BackendError
from ..runners.base import close_quietly
from .recovery import Recovery
from .selection import OPEN_TIMEOUT_S

CLOSE_S = 0.5
_log = logging.getLogger(__name__)


class InUse(NamedTuple):
    """The model that infers, and what its logits mean; see Classifier."""

    runner: Any
    model: str
    temperature: float
    threshold: float

    def __str__(self):
        return "{} on {}".format(self.model, self.runner.backend)


class Fallback(NamedTuple):
    """A better backend that failed, and what took over.

    failed      the model and the backend that failed: "int8 on tensorrt"
    by          those that took over
    reason      why it failed
    since       seconds since 1970
    """

    failed: str
    by: str
    reason: str
    since: float

    def __str__(self):
        return "{} is replaced by {}: {}".format(self.failed, self.by, self.reason)


class Backends:
    """The InUse that several threads infer with at the same time.

    A thread enters it, and leaves it whatever happens.  Where its runner is not ``concurrent`` one thread enters at a
    time.  Of those that saw it fail one opens the next, while the others wait for that; what failed is closed when
    the last thread has left it.

    first       the InUse to begin with
    selection   what has open_next(), and may have open_better(); see Selection.  None: nothing takes over
    """

    def __init__(self, first, selection=None):
        self.in_use = first
        self._selection = selection
        self._recovery = Recovery(selection, self._return_to) if hasattr(selection, "open_better") else None
        self._changed = threading.Condition()
        self._inside: Dict[int, int] = {}  # by id() of a runner: threads in it
        self._retired: Dict[int, Any] = {}  # by id(): runners that nobody may enter any more, and are not closed yet
        self._failures: List[Fallback] = []
        self._thresholds = {first.model: first.threshold}
        self._replacing = self._closed = False

    @property
    def fallback(self) -> Optional[Fallback]:
        """The newest Fallback whose failed backend is not back, or None."""
        failures = self._failures
        return failures[-1] if failures else None

    def threshold(self, model):
        """Return the threshold of a model that is in use, or was."""
        in_use = self.in_use
        return in_use.threshold if model == in_use.model else self._thresholds.get(model, in_use.threshold)

    def check_open(self):
        """Raise BackendError where this was closed."""
        if self._closed:
            raise BackendError("the classifier is closed; open another one with Classifier.open()")

    def enter(self):
        """Return the InUse, once this thread may infer with it; leave() must follow.  Raises BackendError where closed."""
        with self._changed:
            if not self._may_enter():
                self._changed.wait_for(self._may_enter)
            self.check_open()
            in_use = self.in_use
            place = id(in_use.runner)
            self._inside[place] = self._inside.get(place, 0) + 1
            return in_use

    def _may_enter(self):
        runner = self.in_use.runner
        return self._closed or (not self._replacing and (runner.concurrent or id(runner) not in self._inside))

    def leave(self, in_use):
        """Say that this thread infers no longer with what enter() returned."""
        place = id(in_use.runner)
        with self._changed:
            others = self._inside[place] - 1
            if others:
                self._inside[place] = others
            else:
                del self._inside[place]
            last = not others and place in self._retired
            self._changed.notify_all()
        if last:
            self._free(in_use.runner)

    def replace(self, failed, error):
        """Let the next model and backend take over from an InUse that failed; returns once something else is in use.

        Raises BackendError with every reason, and keeps the present one, where none is left; also where closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._replacing)
            self.check_open()
            if failed is not self.in_use:
                return  # another thread has seen to it
            if self._selection is None:
                raise error
            self._replacing = True
        taken_over = None
        try:
            taken_over = self._open_next(failed, error)
        finally:
            self._end_replacing(failed, error, taken_over)
        self.check_open()

    def _open_next(self, failed, error):
        try:
            # Not in open_next(): what is tried in the background must not hide that the program hangs.
            with systemd.busy(OPEN_TIMEOUT_S, "{} failed; opening another".format(failed)):
                return self._selection.open_next()
        except BackendError as none_left:
            self.check_open()
            before = ["\n{}: {}".format(one.failed, one.reason) for one in self._failures]
            before = ["\nwhat failed before:"] + before if before else []
            raise BackendError("{}\n{}{}".format(error, none_left, "".join(before)))

    def _end_replacing(self, failed, error, taken_over):
        unused = None
        with self._changed:
            self._replacing = False
            if taken_over is not None:
                following = _in_use(*taken_over)
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

    def _return_to(self, index, model, runner):
        """Let a better backend, which works again, be in use."""
        following = _in_use(model, runner)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._replacing)
            if not self._closed:
                self._selection.use(index)
                names = [one.failed for one in self._failures]
                self._failures = self._failures[: names.index(str(following)) if str(following) in names else 0]
            before, unused = self.in_use, self._switch(following)
            self._changed.notify_all()
        self._free(unused)
        if not self._closed:
            _log.warning("%s works again, and replaces %s", following, before)

    def _switch(self, following):
        """Let another InUse be in use, unless this is closed; returns a runner to be freed now, or None.  Locked."""
        if self._closed:
            self._retired[id(following.runner)] = following.runner
            return following.runner
        before, self.in_use = self.in_use, following
        self._thresholds[following.model] = following.threshold
        return self._retire(before.runner)

    def _retire(self, runner):
        """Let nobody enter a runner any more; returns it where nobody is inside, else the last to leave frees it.  Locked."""
        self._retired[id(runner)] = runner
        return None if id(runner) in self._inside else runner

    def _free(self, runner):
        """Close a retired runner that nobody is in, or nothing where it is None."""
        if runner is None:
            return
        close_quietly(runner)
        with self._changed:
            self._retired.pop(id(runner), None)
            self._changed.notify_all()

    def close(self):
        """Let nobody in any more, and free the runner; waits CLOSE_S for those inside.

        The last of those that take longer frees it.  One that hangs is left as it is: freeing what it uses would crash.
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
            _log.warning("%s is not closed: an inference does not return", self.in_use)
        if self._recovery is not None:
            self._recovery.join(max(0.0, deadline - time.monotonic()))


def _in_use(model, runner):
    return InUse(runner, model.name, model.temperature, model.threshold)
