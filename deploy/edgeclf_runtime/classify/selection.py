"""Selects a model and a backend: tries them in order, and trusts one only after the golden images.

``classify/tuning`` orders them by measured speed.
"""

import contextlib
import logging
import os
import platform
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ..device.machine import has_dot_product, is_jetson
from ..device.time_limit import Hung, within
from ..errors import BackendError, EdgeclfError, OptionError
from ..runners import RUNNERS, open_runner, probe
from ..runners import prepare as prepare_runner
from ..runners.base import close_quietly, library_errors
from ..runners.onnxruntime import has_cuda
from .golden import check_golden

if TYPE_CHECKING:
    from ..bundle.open_bundle import Bundle, Model
    from ..runners.base import Runner

    Pair = Tuple[Model, str]  # a model and a backend's name

# A large model on a slow board takes a minute, and TensorRT-RTX compiles for several minutes.
OPEN_TIMEOUT_S = 600.0
MOST_HUNG = 3
_OPTIONAL = ("tensorrt", "tensorrt-rtx", "openvino")
GPU_ONLY = ("tensorrt", "tensorrt-rtx")
_log = logging.getLogger(__name__)


def candidates(bundle: "Bundle", model: Optional[str] = None, backend: str = "auto") -> "List[Pair]":
    """Return the (Model, backend) pairs to try on this machine, best first.

    Raises OptionError for an unknown backend, and BackendError if the bundle has no model for the backend.
    """
    models = [bundle.model(model)] if model else bundle.in_order(platform.machine())
    pairs = [(m, b) for m in models for b in m.backends if backend in ("auto", b)]
    if backend == "auto":
        pairs = [(m, b) for m, b in pairs if _is_expected(b)] or pairs
    pairs = in_order(bundle, pairs, has_cuda())
    if not pairs:
        offered = sorted({b for m in models for b in m.backends})
        wrong = BackendError if backend in RUNNERS or backend == "auto" else OptionError
        raise wrong(
            "no model here runs on the backend {!r}; use --backend {}".format(backend, " or ".join(offered))
            if model is None
            else "{} does not run on the backend {!r}; use --backend {}, or another --model".format(
                model, backend, " or ".join(offered)
            )
        )
    return pairs


def _is_expected(backend: str) -> bool:
    """Return whether a missing backend deserves a warning; on a PC TensorRT and OpenVINO do not."""
    if backend == "tensorrt" and is_jetson():
        return True
    try:
        return backend not in _OPTIONAL or probe(backend) is not None
    except BackendError:
        return True  # installed, but broken


def in_order(bundle: "Bundle", pairs: "Sequence[Pair]", cuda: bool) -> "List[Pair]":
    """Return (Model, backend) pairs in the manifest's order, except for what this processor or GPU is fastest with.

    TensorRT's pairs keep their positions.  Of the others, float models on ONNX Runtime come first if it has CUDA, which
    computes quantized ones in float, with all their conversions; then INT8 for Arm's dot-product instructions, if the
    processor has them.

    cuda        whether ONNX Runtime has CUDA
    """
    models = bundle.order.get(platform.machine(), bundle.order["default"])
    dot_product = has_dot_product()

    def rank(pair: "Pair") -> int:
        model, backend = pair
        if cuda and backend == "onnxruntime" and not _is_quantized(model):
            return 0
        return 1 if dot_product and model.name == "int8-arm" else 2

    def position(pair: "Pair") -> Tuple[int, int, int]:
        name = pair[0].name
        return rank(pair), models.index(name) if name in models else len(models), pair[0].backends.index(pair[1])

    rest = iter(sorted([pair for pair in pairs if pair[1] not in GPU_ONLY], key=position))
    return [pair if pair[1] in GPU_ONLY else next(rest) for pair in pairs]


def _is_quantized(model: "Model") -> bool:
    return model.precision.startswith("int")


def prepare(bundle: "Bundle", pairs: "Sequence[Pair]") -> None:
    """Build the missing engines of these pairs, before the first model is open and holds memory that a build needs."""
    for model, backend in pairs:
        # Opening it reports what is wrong.
        with contextlib.suppress(EdgeclfError):
            prepare_runner(backend, bundle.file(model.file))


def pair_name(model: "Model", backend: str) -> str:
    """Return the name of a pair in messages and reports."""
    return "{} on {}".format(model.name, backend)


def open_proven(
    bundle: "Bundle", model: "Model", backend: str, threads: Optional[int] = None, at_once: int = 1
) -> "Runner":
    """Return a Runner of a model that passed the golden images; if it does not pass, raise BackendError with the reason."""
    runner = open_within(bundle, model, backend, threads, at_once)
    try:
        report = check_golden(bundle, model, runner)
        _log.info("%s", report)
        if not report.passed:
            raise BackendError(str(report))
    except (Hung, KeyboardInterrupt):
        raise  # a thread may still be inside: closing would wait for it, or crash
    except BaseException:
        close_quietly(runner)
        raise
    return runner


def open_within(
    bundle: "Bundle", model: "Model", backend: str, threads: Optional[int] = None, at_once: int = 1
) -> "Runner":
    """Open a model of a bundle on a backend, within OPEN_TIMEOUT_S; see runners.open_runner()."""
    arguments = (backend, bundle.file(model.file), threads, at_once)
    # A TensorRT engine is built without a limit, in a separate process that reports its progress.
    if backend == "tensorrt":
        return open_runner(*arguments)
    name = "opening {}".format(pair_name(model, backend))
    runner: "Runner" = within(OPEN_TIMEOUT_S, name, open_runner, *arguments, late=close_quietly)
    return runner


class Selection:
    """A bundle's pairs for a classifier, best first: the one in use, those that failed, and those not tried yet.

    Opening takes seconds, so two threads may do it at once: one calls open_next(), another open_better().

    measured    whether their order comes from measurements on this machine
    ways        by the name of a pair: its number of threads and of images at once, in place of ``threads`` and ``at_once``
    """

    def __init__(
        self,
        bundle: "Bundle",
        pairs: "Sequence[Pair]",
        threads: Optional[int] = None,
        at_once: int = 1,
        measured: bool = False,
        ways: "Optional[Mapping[str, Tuple[Optional[int], int]]]" = None,
    ) -> None:
        self._bundle, self._pairs, self._way, self._ways = bundle, list(pairs), (threads, at_once), ways or {}
        self._measured = measured
        self._at = -1  # index of the pair in use
        # By pair name: pairs that passed the golden images here, reasons of those that did not, and how often they hung.
        self._passed: Set[str] = set()
        self._reasons: Dict[str, str] = {}
        self._hung: Dict[str, int] = {}
        self._closed = False

    def open_next(self) -> "Tuple[Model, Runner]":
        """Return the Model and the Runner of the next pair that runs here and passes the golden images.

        It starts after the pair in use, and skips pairs that failed to open before.  Pairs that fail are logged with their
        reasons.  Raises BackendError with each reason if none is left.
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

    def _gives_way(self, index: int, runner: "Runner") -> bool:
        """Return whether a pair was expected to run on CUDA but runs on the CPU, where another is better; it is moved behind that."""
        pairs = self._pairs[index:]
        if self._measured or pairs[0][1] != "onnxruntime" or runner.device != "cpu" or not has_cuda():
            return False
        self._pairs[index:] = in_order(self._bundle, pairs, cuda=False)
        return self._pairs[index] != pairs[0]

    def better(self) -> List[int]:
        """Return the indices of the pairs that are better than the one in use and worth another attempt."""
        return [at for at, pair in enumerate(self._pairs[: max(self._at, 0)]) if self._may_return(pair_name(*pair))]

    def _may_return(self, name: str) -> bool:
        # Each hang keeps a thread and its memory.
        return name in self._passed and self._hung.get(name, 0) < MOST_HUNG

    def open_better(self) -> "Optional[Tuple[int, Model, Runner]]":
        """Return the index, the Model and the Runner of a better pair that passes the golden images again, or None."""
        for index in self.better():
            pair = self._pairs[index]
            try:
                return index, pair[0], self._open(*pair)
            except EdgeclfError as error:
                _log.info("%s does not work yet: %s", pair_name(*pair), error)
        return None

    def use(self, index: int) -> None:
        """Make the pair that open_better() returned the one in use."""
        self._at = index

    def close(self) -> None:
        """Open nothing from now on."""
        self._closed = True

    def _open(self, model: "Model", backend: str) -> "Runner":
        if self._closed:
            raise BackendError("the classifier was closed")
        name = pair_name(model, backend)
        try:
            with library_errors("it failed", ImportError):
                runner = open_proven(self._bundle, model, backend, *self._ways.get(name, self._way))
        except Hung:
            self._hung[name] = self._hung.get(name, 0) + 1
            raise
        self._passed.add(name)
        self._reasons.pop(name, None)
        return runner

    def _by_reason(self, names: List[str]) -> List[Tuple[str, str]]:
        """Return each reason with the names of the pairs that failed for it."""
        found: Dict[str, List[str]] = {}
        for name in names:
            found.setdefault(self._reasons[name], []).append(name)
        return [(reason, ", ".join(those)) for reason, those in found.items()]

    def _none_left(self) -> str:
        failed = [name for name in (pair_name(*pair) for pair in self._pairs) if name in self._reasons]
        reasons = ["\n  {}: {}".format(names, reason) for reason, names in self._by_reason(failed)]
        return "no {}model of {} runs on this machine{}{}".format(
            "other " if self._passed else "",
            os.path.basename(self._bundle.path),
            ":" if reasons else "",
            "".join(reasons),
        )
