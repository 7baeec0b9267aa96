"""The Ray engine: a task for each part, on a Ray of this machine that ends with the work, or on the cluster in RAY_ADDRESS."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any

from edgeclf_runtime.device.machine import cores

from ...data.temporary import temporary_folder
from ...errors import DependencyError, EdgeclfError
from .part import classify_part
from .unfinished import Unfinished

# Ray does not say at which image a process died, so more are tried than by local.py: a cluster may take machines away.
_ATTEMPTS = 10
# Tasks for each processor, so that it never waits for one.
_AHEAD = 2
# Its least; only the numbers of parts are stored.
_STORE_BYTES = 80 << 20
_LOOPBACK = "127.0.0.1"
# Ray's sockets have 62 more bytes, and their path at most 107.
_LONGEST_FOLDER = 40


def check_ray() -> None:
    """Raise DependencyError if Ray is not installed."""
    if find_spec("ray") is None:
        raise DependencyError('--engine ray needs Ray; install it: python3 -m pip install "edgeclf[ray]"')


def classify_on_ray(work: Unfinished, parts: Iterable[int], workers: int | None) -> Iterator[int]:
    """Classify parts in tasks of Ray, each with one processor; yield the number of each that is done.

    Every machine of a cluster needs edgeclf, and the images, the model and the output's folder by the same paths.
    Raises EdgeclfError if _ATTEMPTS processes died on the same part.
    """
    with _session(workers) as (ray, at_once):
        task = ray.remote(num_cpus=1, max_retries=_ATTEMPTS - 1)(_classify)
        pending: dict[Any, int] = {}
        for part in parts:
            pending[task.remote(str(work.path), part)] = part
            while len(pending) >= at_once:
                yield from _finished(ray, work, pending)
        while pending:
            yield from _finished(ray, work, pending)


def _classify(folder: str, part: int) -> str:
    """Classify a part; return why it cannot be, "" if it is done.  A part that an earlier task has finished is not repeated."""
    if Unfinished(folder).has(part):
        return ""
    try:
        for _ in classify_part(folder, part):
            pass
    except EdgeclfError as error:
        return str(error)
    return ""


def _finished(ray: Any, work: Unfinished, pending: dict[Any, int]) -> Iterator[int]:
    """Wait for a task, remove it and those that ended too, and yield their parts."""
    # A timeout, since Ray's own wait does not let a signal through.
    done, _ = ray.wait(list(pending), timeout=1.0)
    for one in done:
        part = pending.pop(one)
        try:
            problem = ray.get(one)
        except ray.exceptions.RayError as error:
            items, lines = list(work.items(part)), str(error).strip().splitlines()
            # The first line of an exception in a task says where it was raised.
            reason = lines[-1] if isinstance(error, ray.exceptions.RayTaskError) else lines[0]
            raise EdgeclfError(
                f"Ray gave up the images from {items[0].name} to {items[-1].name} ({reason}): if processes died, the engine local "
                "names the image at which they did"
            ) from None
        if problem:
            raise EdgeclfError(problem)
        yield part


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
