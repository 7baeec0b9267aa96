"""Which model runs on which backend here: tried in order, and trusted after the golden images alone.

Knows nothing of speed; ``tuning.py`` does.
"""

import logging
import os
import platform
from typing import Dict, List

from .errors import BackendError, EdgeclfError
from .golden import check_golden
from .limit import Hung, within
from .machine import is_jetson
from .runners import backend_version, open_runner

# A large model on a slow board takes a minute; TensorRT-RTX compiles for several.
OPEN_TIMEOUT_S = 600.0
_OPTIONAL = ("tensorrt", "tensorrt-rtx", "openvino")
_log = logging.getLogger(__name__)


def candidates(bundle, model=None, backend="auto"):
    """Return the (Model, backend) pairs to try on this machine, best first.

    Raises BackendError where the bundle has no model for the backend that is asked for.
    """
    models = [bundle.model(model)] if model else bundle.in_order(platform.machine())
    pairs = [(m, b) for m in models for b in m.backends if backend in ("auto", b)]
    if backend == "auto":
        pairs = [(m, b) for m, b in pairs if _is_expected(b)] or pairs
    if not pairs:
        offered = sorted({b for m in models for b in m.backends})
        raise BackendError(
            "no model here runs on the backend {!r}; use --backend {}".format(backend, " or ".join(offered))
            if model is None
            else "{} does not run on the backend {!r}; use --backend {}, or another --model".format(
                model, backend, " or ".join(offered)
            )
        )
    return pairs


def _is_expected(backend):
    """Whether a backend's absence would be worth a warning: a PC without TensorRT or OpenVINO lacks nothing."""
    if backend == "tensorrt" and is_jetson():
        return True
    return backend not in _OPTIONAL or backend_version(backend) is not None


def pair_name(model, backend):
    """Return what a pair is called in messages and reports."""
    return "{} on {}".format(model.name, backend)


def open_proven(bundle, model, backend, threads=None, at_once=1):
    """Return a Runner of a model that passed the golden images; BackendError says why if it did not."""
    runner = open_within(bundle, model, backend, threads, at_once)
    try:
        report = check_golden(bundle, model, runner)
        if not report.passed:
            raise BackendError(str(report))
    except Hung:
        raise  # its thread is still inside: closing would wait for it, or crash
    except BaseException:
        runner.close()
        raise
    return runner


def open_within(bundle, model, backend, threads=None, at_once=1):
    """Open a model of a bundle on a backend, which must not take for ever; see runners.open_runner()."""
    arguments = (backend, bundle.file(model.file), threads, at_once)
    # Building an engine takes as long as it takes, in a process of its own that tells how far it is.
    if backend == "tensorrt":
        return open_runner(*arguments)
    return within(OPEN_TIMEOUT_S, "opening {}".format(pair_name(model, backend)), open_runner, *arguments)


class Selection:
    """The pairs that are still to be tried; whoever opens the next has done with those before it."""

    def __init__(self, bundle, pairs, threads=None, at_once=1):
        self._bundle, self._pairs, self._threads, self._at_once = bundle, list(pairs), threads, at_once
        self._other = ""

    def open_next(self):
        """Return the Model and the Runner of the next pair that runs here and passes the golden images.

        Those that are passed over are logged with their reasons.  Raises BackendError with each
        reason where none is left.
        """
        passed_over: Dict[str, List[str]] = {}
        while self._pairs:
            model, backend = self._pairs.pop(0)
            try:
                runner = open_proven(self._bundle, model, backend, self._threads, self._at_once)
            except EdgeclfError as error:
                passed_over.setdefault(str(error), []).append(pair_name(model, backend))
                continue
            for reason, names in passed_over.items():
                _log.warning("passed over %s: %s", ", ".join(names), reason)
            self._other = "other "
            return model, runner
        reasons = ["\n  {}: {}".format(", ".join(names), reason) for reason, names in passed_over.items()]
        raise BackendError(
            "no {}model of {} runs on this machine{}{}".format(
                self._other, os.path.basename(self._bundle.path), ":" if reasons else "", "".join(reasons)
            )
        )
