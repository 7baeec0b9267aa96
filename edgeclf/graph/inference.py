"""Runs models over images as a device does: one image per inference, several inferences at a time.

A file for another machine, such as TensorRT's Q/DQ, is slow on ONNX Runtime's CPU kernels, and gains more from several
inferences of one thread each than from several threads in one inference.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.runners.base import Outputs, Runner, joined
from edgeclf_runtime.runners.openvino import OpenVinoRunner

from ..data.temporary import temporary_folder
from ..errors import BackendError
from ..targets import FLAVORS, opset_of
from .host_form import HostRunner
from .onnx_file import save_model

if TYPE_CHECKING:
    import onnx

T = TypeVar("T")
_ROUNDS, _TIMED, _WARM_UP = 3, 10, 3
_FEWEST_TIMED, _VISIT_S = 3, 0.3
"""A visit to a slow model ends after this many inferences, once they took this many seconds: they vary less than fast ones."""


def infer(runner: Runner, batches: Iterable[np.ndarray], at_once: int = 1) -> np.ndarray:
    """Return a runner's logits of batches, float32 [images, labels], in the batches' order.

    batches: float32 [N, height, width, 3] each.  at_once: inferences at the same time, if the runner is ``concurrent``.
    """
    return np.concatenate(list(infer_each(runner, batches, at_once)))


def infer_outputs(runner: Runner, batches: Iterable[np.ndarray], at_once: int = 1) -> Outputs:
    """Return a runner's logits and features of batches, in the batches' order; see :func:`infer`."""
    return joined(list(infer_outputs_each(runner, batches, at_once)))


def infer_outputs_each(runner: Runner, batches: Iterable[np.ndarray], at_once: int = 1) -> Iterator[Outputs]:
    """Yield a runner's logits and features of each batch, in order; see :func:`infer`."""
    return _each(runner, runner.infer_outputs, batches, at_once)


def infer_each(runner: Runner, batches: Iterable[np.ndarray], at_once: int = 1) -> Iterator[np.ndarray]:
    """Yield a runner's logits of each batch, in order; see :func:`infer`."""
    return _each(runner, runner.infer, batches, at_once)


def _each(runner: Runner, run: Callable[[np.ndarray], T], batches: Iterable[np.ndarray], at_once: int) -> Iterator[T]:
    workers = at_once if runner.concurrent else 1
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            pending.append(pool.submit(run, batch))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        for future in pending:
            yield future.result()


def infer_file(model: Path, name: str, batches: Iterable[np.ndarray]) -> np.ndarray:
    """Return an ONNX file's logits of batches, float32 [images, labels]; ``name`` as in targets.FLAVORS, or fp32."""
    return np.concatenate(list(infer_file_each(model, name, batches)))


def infer_file_outputs(model: Path, name: str, batches: Iterable[np.ndarray]) -> Outputs:
    """Return an ONNX file's logits and features of batches; see :func:`infer_file`."""
    with HostRunner(model, threads=1, name=name) as runner:
        return infer_outputs(runner, batches, cores())


def infer_file_each(model: Path, name: str, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield an ONNX file's logits of each batch, in order; see :func:`infer_file`."""
    with HostRunner(model, threads=1, name=name) as runner:
        yield from infer_each(runner, batches, cores())


def infer_graph(model: onnx.ModelProto, name: str, batches: Iterable[np.ndarray]) -> np.ndarray:
    """Return the logits of a model that is not on disk, as infer_file() does."""
    return infer_graph_outputs(model, name, batches).logits


def infer_graph_outputs(model: onnx.ModelProto, name: str, batches: Iterable[np.ndarray]) -> Outputs:
    """Return the logits and features of a model that is not on disk; see :func:`infer_file`."""
    with temporary_folder() as folder:
        path = Path(folder) / "model.onnx"
        save_model(model, path, {}, opset_of(name))
        return infer_file_outputs(path, name, batches)


def own_runner(name: str, path: Path, strict: bool = False) -> Runner:
    """Return the backend that runs a file on a device, if it runs here; else ONNX Runtime, which computes the same.

    name: as in targets.FLAVORS, or fp32.  strict: raise BackendError instead.
    """
    if name in FLAVORS and FLAVORS[name].only_openvino:
        try:
            return OpenVinoRunner(path)
        except BackendError:
            if strict:
                raise
    return HostRunner(path, name=name)


def time_files(
    models: Sequence[tuple[str, Path]], batch: np.ndarray, rounds: int = _ROUNDS, strict: bool = False
) -> list[float]:
    """Return each ONNX file's time of one inference, in milliseconds: the median, alternating between the files.

    models: the name in targets.FLAVORS, and the file.  batch: float32 [1, height, width, 3].  The backend chooses the number of
    threads: ONNX Runtime, or OpenVINO for a file that only OpenVINO runs.  strict: raise BackendError if OpenVINO cannot run it;
    else ONNX Runtime does.
    """
    with contextlib.ExitStack() as stack:
        runners = _opened(models, strict, stack)
        samples: list[list[float]] = [[] for _ in runners]
        for _ in range(rounds):
            for runner, times in zip(runners, samples, strict=True):
                times += _visit(runner, batch)
    return [round(float(np.median(times)), 3) for times in samples]


def _visit(runner: Runner, batch: np.ndarray) -> list[float]:
    """Return the milliseconds of some inferences, one after the other."""
    times: list[float] = []
    begin = time.perf_counter()
    for number in range(_WARM_UP + _TIMED):
        start = time.perf_counter()
        runner.infer(batch)
        end = time.perf_counter()
        slow = end - begin > _VISIT_S
        if number >= (1 if slow else _WARM_UP):
            times.append((end - start) * 1e3)
        if slow and len(times) >= _FEWEST_TIMED:
            break
    return times


def _opened(models: Sequence[tuple[str, Path]], strict: bool, stack: contextlib.ExitStack) -> list[Runner]:
    """Open files several at a time, since OpenVINO's are first checked in a child; the stack closes them."""
    with ThreadPoolExecutor(cores()) as pool:
        openings = [pool.submit(own_runner, name, path, strict) for name, path in models]
    for opening in openings:
        if not opening.exception():
            stack.enter_context(opening.result())
    return [opening.result() for opening in openings]
