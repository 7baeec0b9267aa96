"""The inference backends, in one table; each is imported only when it is opened."""

import importlib

from ..device.machine import cores, quota_cores
from ..errors import BackendError
from .base import PASSED, library_errors

# Backend: module and class.
RUNNERS = {
    "tensorrt": ("..trt.runner", "TensorRtRunner"),
    "tensorrt-rtx": (".tensorrt_rtx", "TensorRtRtxRunner"),
    "onnxruntime": (".onnxruntime", "OnnxRuntimeRunner"),
    "openvino": (".openvino", "OpenVinoRunner"),
    "opencv": (".opencv", "OpenCvRunner"),
}


def open_runner(backend, model_path, threads=None, at_once=1):
    """Open a model file on a backend.

    threads     that the backend may use; None leaves the choice to it
    at_once     how many threads will call infer() at the same time, where the runner is ``concurrent``: they share
                the backend's threads

    Returns a Runner (see ``base.py``).  Raises BackendError where the backend's name is not
    known, its library is missing, or it refuses the model.
    """
    runner = getattr(_runner_module(backend), RUNNERS[backend][1])
    _hold_opencv_to_quota()
    if at_once > 1 and runner.concurrent:
        threads = max(1, (threads or cores()) // at_once)
    return runner(model_path, threads=threads)


def prepare(backend, model_path):
    """Do what a backend does once for a model, before anything is opened: TensorRT builds an engine; raises as open_runner."""
    module = _runner_module(backend)
    if hasattr(module, "prepare"):
        with library_errors("{} cannot prepare {}".format(backend, model_path)):
            module.prepare(model_path)


def _hold_opencv_to_quota():
    """Let OpenCV, which resizes for every backend, use no more threads than may run here."""
    try:
        import cv2
    except PASSED:
        raise
    except BaseException:
        return  # whoever needs it says so
    most = quota_cores()
    if most is not None and cv2.getNumThreads() > most:
        cv2.setNumThreads(most)


def backend_version(backend):
    """Return the version of a backend's library here, or None where it is missing or broken; BackendError as open_runner."""
    try:
        return probe(backend)
    except BackendError:
        _runner_module(backend)
        return None


def probe(backend):
    """Return the version of a backend's library here, or None where it is missing.

    Raises BackendError, with the library's words, where it is there and cannot be imported, and for an unknown name.
    """
    module = _runner_module(backend)
    with library_errors("the library of the backend {} cannot be used".format(backend)):
        try:
            return module.version()
        except ImportError:
            return None


def _runner_module(backend):
    if backend not in RUNNERS:
        raise BackendError("there is no backend {!r}; there are {}".format(backend, ", ".join(sorted(RUNNERS))))
    return importlib.import_module(RUNNERS[backend][0], __name__)
