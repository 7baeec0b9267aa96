"""The inference backends, in one table; each is imported only when it is opened."""

import importlib

from ..errors import BackendError
from ..machine import cores

# Backend: module and class.
RUNNERS = {
    "tensorrt": ("trt", "TensorRtRunner"),
    "tensorrt-rtx": ("rtx", "TensorRtRtxRunner"),
    "onnxruntime": ("ort", "OnnxRuntimeRunner"),
    "openvino": ("ov", "OpenVinoRunner"),
    "opencv": ("opencv", "OpenCvRunner"),
}


def open_runner(backend, model_path, threads=None, at_once=1):
    """Open a model file on a backend.

    threads     that the backend may use; None leaves the choice to it
    at_once     how many threads will call infer() at the same time, where the runner is ``concurrent``: they share
                the backend's threads

    Returns a Runner (see ``base.py``).  Raises BackendError where the backend's name is not
    known, its library is missing, or it refuses the model.
    """
    runner = getattr(_module(backend), RUNNERS[backend][1])
    if at_once > 1 and runner.concurrent:
        threads = max(1, (threads or cores()) // at_once)
    return runner(model_path, threads=threads)


def backend_version(backend):
    """Return the version of a backend's library here, or None where it is missing; raises BackendError as open_runner."""
    try:
        return _module(backend).version()
    except ImportError:
        return None


def _module(backend):
    if backend not in RUNNERS:
        raise BackendError("there is no backend {!r}; there are {}".format(backend, ", ".join(sorted(RUNNERS))))
    return importlib.import_module("." + RUNNERS[backend][0], __name__)
