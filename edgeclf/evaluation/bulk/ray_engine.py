"""The Ray engine: a task for each part of the images, on a Ray that ends with the work, or on the cluster in RAY_ADDRESS."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from edgeclf_runtime.device.machine import cores

from ...data.temporary import temporary_folder
from ...display.progress import progress
from ...errors import DependencyError, EdgeclfError, ImageError
from .part import classify_part
from .unfinished import IMAGES_OF_A_PART, Unfinished

J = TypeVar("J")
R = TypeVar("R")
T = TypeVar("T")
# Ray does not say at which image a process died, so more are tried than by local.py: a cluster may take machines away.
_ATTEMPTS = 10
# Tasks for each processor, so that it never waits for one.
_AHEAD = 2
# Its least; only orders and some results are stored.
_STORE_BYTES = 80 << 20
_LOOPBACK = "127.0.0.1"
# Ray's sockets have 62 more bytes, and their path at most 107.
_LONGEST_FOLDER = 40


def check_engine(engine: str) -> None:
    """Raise DependencyError if the engine is Ray, and that is not installed."""
    if engine == "ray" and find_spec("ray") is None:
        raise DependencyError('--engine ray needs Ray; install it: python3 -m pip install "edgeclf[ray]"')


def classify_on_ray(work: Unfinished, parts: Iterable[int], workers: int | None) -> Iterator[int]:
    """Classify parts in tasks of Ray; yield the number of each that is done.

    The machines of a cluster need the images, the model and the output's folder by the same paths.
    """
    jobs = ((str(work.path), part) for part in parts)
    for (_, part), _ in _on_ray(_classify, jobs, workers, lambda job: [item.name for item in work.items(job[1])]):
        yield part


def each_on_ray(
    compute: Callable[[list[str]], Sequence[T]], paths: Mapping[str, Path], what: str
) -> Iterator[tuple[str, T]]:
    """Yield each image's hash and what a function makes of its file, in tasks of Ray, as they end.

    compute: takes the paths of some images and returns a result for each; it is pickled.  paths: a file by the hash of its content.
    """
    digests = {os.path.abspath(path): digest for digest, path in paths.items()}
    files = list(digests)
    jobs = (files[start : start + IMAGES_OF_A_PART] for start in range(0, len(files), IMAGES_OF_A_PART))
    with progress(what, len(files)) as advance:
        for job, results in _on_ray(compute, jobs, None, lambda job: job):
            for file, result in zip(job, results, strict=True):
                yield digests[file], result
                advance()


def _classify(job: tuple[str, int]) -> None:
    """Classify a part.  One that an earlier task has finished is not repeated."""
    folder, part = job
    if not Unfinished(folder).has(part):
        for _ in classify_part(folder, part):
            pass


def _on_ray(
    function: Callable[[J], R], jobs: Iterable[J], workers: int | None, names: Callable[[J], list[str]]
) -> Iterator[tuple[J, R]]:
    """Call a function for each job in tasks of Ray, each with one processor; yield each job and its result as it ends.

    names: a job's images, for messages.  Every machine of a cluster needs edgeclf.  Raises EdgeclfError if _ATTEMPTS processes
    died at the same job.
    """
    with _session(workers) as (ray, at_once):
        task = ray.remote(num_cpus=1, max_retries=_ATTEMPTS - 1)(_result_or_problem)
        pending: dict[Any, J] = {}
        for job in jobs:
            pending[task.remote(function, job)] = job
            while len(pending) >= at_once:
                yield from _finished(ray, pending, names)
        while pending:
            yield from _finished(ray, pending, names)


def _result_or_problem(function: Callable[[J], R], job: J) -> tuple[R | None, type[EdgeclfError] | None, str]:
    """Return the function's result, or the kind and text of an error: Ray would put it into one of its own."""
    try:
        return function(job), None, ""
    except EdgeclfError as error:
        return None, ImageError if isinstance(error, ImageError) else EdgeclfError, str(error)


def _finished(ray: Any, pending: dict[Any, J], names: Callable[[J], list[str]]) -> Iterator[tuple[J, Any]]:
    """Wait for a task, remove it and those that ended too, and yield their jobs and results."""
    # A timeout, since Ray's own wait does not let a signal through.
    done, _ = ray.wait(list(pending), timeout=1.0)
    for one in done:
        job = pending.pop(one)
        try:
            result, kind, problem = ray.get(one)
        except ray.exceptions.RayError as error:
            images, lines = names(job), str(error).strip().splitlines()
            # The first line of an exception in a task says where it was raised.
            reason = lines[-1] if isinstance(error, ray.exceptions.RayTaskError) else lines[0]
            raise EdgeclfError(
                f"Ray gave up the images from {images[0]} to {images[-1]} ({reason}): if processes died, predict --output with "
                "the engine local names the image at which they did"
            ) from None
        if kind:
            raise kind(problem)
        yield job, result


@contextmanager
def _session(workers: int | None) -> Iterator[tuple[Any, int]]:
    """Yield Ray, and the number of tasks to give it at once; a Ray that was started here ends."""
    # Ray reads these when it is imported.  It would report to its maker.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = os.environ.get("RAY_ADDRESS")
    if not cluster:
        # Whatever address it is given, it listens on every network, but not on Windows and macOS.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Its processes would give way to every other program.
        os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    # Ray prints about each process that dies.
    with redirect_stdout(sys.stderr), ExitStack() as stack:
        own = not (cluster or ray.is_initialized())
        if not ray.is_initialized():
            options = {"log_to_driver": False, "logging_level": "error"}
            ray.init(**options, **(_own(workers, stack) if own else {}))
            stack.callback(ray.shutdown)
            address = ray.util.get_node_ip_address()
            if own and address != _LOOPBACK:
                raise EdgeclfError(
                    f"Ray listens on {address}, {_LOOPBACK} was expected: import edgeclf and call bulk_predict() before anything "
                    "imports ray, or start Ray yourself with ray.init()"
                )
        processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield ray, workers if workers and not own else processors * _AHEAD


def _own(workers: int | None, stack: ExitStack) -> dict[str, Any]:
    """Return the options of a Ray for this work only; the stack removes its folder."""
    folder = stack.enter_context(temporary_folder(in_use=True))
    options = {
        "num_cpus": workers or cores(),
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
    }
    return {**options, "_temp_dir": str(folder)} if len(os.fsencode(folder)) <= _LONGEST_FOLDER else options
