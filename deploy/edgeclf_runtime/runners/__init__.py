"""The inference backends, in one table; each is imported only when it is opened."""

import importlib
from typing import TYPE_CHECKING, Optional

from ..device.machine import cores, thread_limit
from ..errors import BackendError
from .base import PASSED, library_errors

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Type

    from .base import ModelPath, Runner

# Backend: module and class.
RUNNERS = {
    "tensorrt": ("..trt.runner", "TensorRtRunner"),
    "tensorrt-rtx": (".tensorrt_rtx", "TensorRtRtxRunner"),
    "onnxruntime": (".onnxruntime", "OnnxRuntimeRunner"),
    "openvino": (".openvino", "OpenVinoRunner"),
    "opencv": (".opencv", "OpenCvRunner"),
}


def open_runner(backend: str, model_path: "ModelPath", threads: Optional[int] = None, at_once: int = 1) -> "Runner":
    """Open a model file on a backend.

    threads     number of threads for the backend; None: the backend decides
    at_once     number of threads that will call infer() at the same time if the runner is ``concurrent``; they share the
                backend's threads

    Raises BackendError if the backend is unknown, its library is missing, or it refuses the model.
    """
    runner = _runner_class(backend)
    _hold_opencv_to_limit()
    if at_once > 1 and runner.concurrent:
        threads = max(1, (threads or thread_limit() or cores()) // at_once)
    opened = runner(model_path, threads=threads)
    opened.at_once = at_once if opened.concurrent else 1
    return opened


def is_concurrent(backend: str) -> bool:
    """Return whether several threads may infer with a backend at the same time, on a processor; its library is not loaded."""
    return bool(_runner_class(backend).concurrent)


def _runner_class(backend: str) -> "Type[Runner]":
    found: "Type[Runner]" = getattr(_runner_module(backend), RUNNERS[backend][1])
    return found


def prepare(backend: str, model_path: "ModelPath") -> None:
    """Do a backend's one-time work for a model, before anything is opened: TensorRT builds an engine.

    Raises BackendError like open_runner().
    """
    module = _runner_module(backend)
    if hasattr(module, "prepare"):
        with library_errors("{} cannot prepare {}".format(backend, model_path)):
            module.prepare(model_path)


def _hold_opencv_to_limit() -> None:
    """Limit the threads of OpenCV, which resizes for every backend, to those that may run here."""
    try:
        import cv2
    except PASSED:
        raise
    except BaseException:
        return  # whatever needs OpenCV reports it
    most = thread_limit()
    if most is not None and cv2.getNumThreads() > most:
        cv2.setNumThreads(most)


def backend_version(backend: str) -> Optional[str]:
    """Return the version of a backend's library, or None if it is missing or broken.

    Raises BackendError if the backend is unknown.
    """
    try:
        return probe(backend)
    except BackendError:
        _runner_module(backend)
        return None


def probe(backend: str) -> Optional[str]:
    """Return the version of a backend's library, or None if it is missing.

    Raises BackendError, with the library's words, if it is installed but cannot be imported, or the backend is unknown.
    """
    module = _runner_module(backend)
    with library_errors("the library of the backend {} cannot be used".format(backend)):
        try:
            return str(module.version())
        except ImportError:
            return None


def _runner_module(backend: str) -> "ModuleType":
    if backend not in RUNNERS:
        raise BackendError("there is no backend {!r}; choose from {}".format(backend, ", ".join(sorted(RUNNERS))))
    return importlib.import_module(RUNNERS[backend][0], __name__)
