"""Which model runs on which backend here: tried in order, and trusted after the golden images alone.

Measures no speed; ``classify/tuning.py`` does.
"""

import contextlib
import logging
import os
import platform
from typing import Dict, List, Set

from ..device.machine import has_dot_product, is_jetson
from ..device.time_limit import Hung, within
from ..errors import BackendError, EdgeclfError
from ..runners import open_runner, probe
from ..runners import prepare as prepare_runner
from ..runners.base import close_quietly, library_errors
from ..runners.onnxruntime import has_cuda
from .golden import check_golden

# A large model on a slow board takes a minute; TensorRT-RTX compiles for several.
OPEN_TIMEOUT_S = 600.0
MOST_HUNG = 3
_OPTIONAL = ("tensorrt", "tensorrt-rtx", "openvino")
_GPU_ONLY = ("tensorrt", "tensorrt-rtx")
_log = logging.getLogger(__name__)


def candidates(bundle, model=None, backend="auto"):
    """Return the (Model, backend) pairs to try on this machine, best first.

    Raises BackendError where the bundle has no model for the backend that is asked for.
    """
    models = [bundle.model(model)] if model else bundle.in_order(platform.machine())
    pairs = [(m, b) for m in models for b in m.backends if backend in ("auto", b)]
    if backend == "auto":
        pairs = [(m, b) for m, b in pairs if _is_expected(b)] or pairs
    pairs = in_order(bundle, pairs, has_cuda())
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
    try:
        return backend not in _OPTIONAL or probe(backend) is not None
    except BackendError:
        return True  # it is there, and broken


def in_order(bundle, pairs, cuda):
    """Return (Model, backend) pairs in the manifest's order but for what this very processor or GPU is fastest with.

    TensorRT's pairs keep their places.  Of the others, float models on ONNX Runtime come first if it has CUDA, which
    computes quantized ones in float, with all their conversions; then INT8 of the form that Arm's dot-product
    instructions are for, if the processor has them.

    cuda        whether ONNX Runtime has CUDA
    """
    models = bundle.order.get(platform.machine(), bundle.order["default"])
    dot_product = has_dot_product()

    def rank(pair):
        model, backend = pair
        if cuda and backend == "onnxruntime" and not _is_quantized(model):
            return 0
        return 1 if dot_product and model.name == "int8-arm" else 2

    def place(pair):
        name = pair[0].name
        return rank(pair), models.index(name) if name in models else len(models), pair[0].backends.index(pair[1])

    rest = iter(sorted([pair for pair in pairs if pair[1] not in _GPU_ONLY], key=place))
    return [pair if pair[1] in _GPU_ONLY else next(rest) for pair in pairs]


def _is_quantized(model):
    return model.precision.startswith("int")


def prepare(bundle, pairs):
    """Build the engines that these pairs need and lack: once the first is open, it holds memory that a build needs."""
    for model, backend in pairs:
        # Opening it says what is wrong.
        with contextlib.suppress(EdgeclfError):
            prepare_runner(backend, bundle.file(model.file))


def pair_name(model, backend):
    """Return what a pair is called in messages and reports."""
    return "{} on {}".format(model.name, backend)


def open_proven(bundle, model, backend, threads=None, at_once=1):
    """Return a Runner of a model that passed the golden images; BackendError says why if it did not."""
    runner = open_within(bundle, model, backend, threads, at_once)
    try:
        report = check_golden(bundle, model, runner)
        _log.info("%s", report)
        if not report.passed:
            raise BackendError(str(report))
    except (Hung, KeyboardInterrupt):
        raise  # a thread may still be inside of it: closing would wait for it, or crash
    except BaseException:
        close_quietly(runner)
        raise
    return runner


def open_within(bundle, model, backend, threads=None, at_once=1):
    """Open a model of a bundle on a backend, which must not take for ever; see runners.open_runner()."""
    arguments = (backend, bundle.file(model.file), threads, at_once)
    # Building an engine takes as long as it takes, in a process of its own that tells how far it is.
    if backend == "tensorrt":
        return open_runner(*arguments)
    name = "opening {}".format(pair_name(model, backend))
    return within(OPEN_TIMEOUT_S, name, open_runner, *arguments, late=close_quietly)


class Selection:
    """The pairs of a bundle that a classifier runs on, best first: which is in use, which failed, what comes next.

    Opening takes seconds, so two threads may be at it: one calls open_next(), another open_better().

    measured    whether their order comes from figures of this machine's
    """

    def __init__(self, bundle, pairs, threads=None, at_once=1, measured=False):
        self._bundle, self._pairs, self._threads, self._at_once = bundle, list(pairs), threads, at_once
        self._measured = measured
        self._at = -1  # index of the pair in use
        # By the pairs' names: those that passed the golden images here, why others did not, and how often they hung.
        self._passed: Set[str] = set()
        self._reasons: Dict[str, str] = {}
        self._hung: Dict[str, int] = {}
        self._closed = False

    def open_next(self):
        """Return the Model and the Runner of the next pair that runs here and passes the golden images.

        Next is what comes after the pair in use and did not fail to open before.  Those that are passed over are
        logged with their reasons.  Raises BackendError with each reason if none is left.
        """
        passed_over: List[str] = []
        index = self._at + 1
        while index < len(self._pairs):
            pair = self._pairs[index]
            name = pair_name(*pair)
            if name not in self._reasons or self._may_return(name):
                try:
                    runner = self._open(*pair)
                    if self._gives_way(index, runner):
                        close_quietly(runner)
                        continue
                    self._at = index
                    for reason, names in self._by_reason(passed_over):
                        _log.warning("passed over %s: %s", names, reason)
                    return pair[0], runner
                except EdgeclfError as error:
                    self._reasons[name] = str(error)
                    passed_over.append(name)
            index += 1
        raise BackendError(self._none_left())

    def _gives_way(self, index, runner):
        """Whether a pair was to run by CUDA, runs on the CPU, and another one comes first there; it is moved behind that."""
        pairs = self._pairs[index:]
        if self._measured or pairs[0][1] != "onnxruntime" or runner.device != "cpu" or not has_cuda():
            return False
        self._pairs[index:] = in_order(self._bundle, pairs, cuda=False)
        return self._pairs[index] != pairs[0]

    def better(self):
        """Return the indices of the pairs that are better than the one in use, and worth another attempt."""
        return [at for at, pair in enumerate(self._pairs[: max(self._at, 0)]) if self._may_return(pair_name(*pair))]

    def _may_return(self, name):
        # Each time that one hangs keeps a thread and its memory.
        return name in self._passed and self._hung.get(name, 0) < MOST_HUNG

    def open_better(self):
        """Return the index, the Model and the Runner of a better pair that passes the golden images again, or None."""
        for index in self.better():
            pair = self._pairs[index]
            try:
                return index, pair[0], self._open(*pair)
            except EdgeclfError as error:
                _log.info("%s does not work again yet: %s", pair_name(*pair), error)
        return None

    def use(self, index):
        """Go on from the pair that open_better() returned."""
        self._at = index

    def close(self):
        """Open nothing from now on."""
        self._closed = True

    def _open(self, model, backend):
        if self._closed:
            raise BackendError("the classifier was closed")
        name = pair_name(model, backend)
        try:
            with library_errors("it failed", ImportError):
                runner = open_proven(self._bundle, model, backend, self._threads, self._at_once)
        except Hung:
            self._hung[name] = self._hung.get(name, 0) + 1
            raise
        self._passed.add(name)
        self._reasons.pop(name, None)
        return runner

    def _by_reason(self, names):
        """Return pairs of a reason and the names of the pairs that it holds for."""
        found: Dict[str, List[str]] = {}
        for name in names:
            found.setdefault(self._reasons[name], []).append(name)
        return [(reason, ", ".join(those)) for reason, those in found.items()]

    def _none_left(self):
        failed = [name for name in (pair_name(*pair) for pair in self._pairs) if name in self._reasons]
        reasons = ["\n  {}: {}".format(names, reason) for reason, names in self._by_reason(failed)]
        return "no {}model of {} runs on this machine{}{}".format(
            "other " if self._passed else "",
            os.path.basename(self._bundle.path),
            ":" if reasons else "",
            "".join(reasons),
        )
