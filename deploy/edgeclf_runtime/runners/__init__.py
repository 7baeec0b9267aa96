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

# OpenCV takes its own choice of threads for it.
_DEFAULT = -1


def open_runner(backend, model_path, threads=None, at_once=1):
    """Open a model file on a backend.

    threads     that the backend may use; None leaves the choice to it
    at_once     how many threads will call infer() at the same time, where the runner is ``concurrent``: they share
                the backend's threads

    Where another library infers on the CPU, OpenCV is set to one thread in this process.

    Returns a Runner (see ``base.py``).  Raises BackendError where the backend's name is not
    known, its library is missing, or it refuses the model.
    """
    runner = getattr(_module(backend), RUNNERS[backend][1])
    if at_once > 1 and runner.concurrent:
        threads = max(1, (threads or cores()) // at_once)
    opened = runner(model_path, threads=threads)
    _share_processor(opened, threads)
    return opened


def _share_processor(runner, threads):
    """Keep OpenCV's threads, where they are not those that infer, off the cores of the backend.

    A second thread saves 0.2 ms of a frame's preprocessing, and then waits with a backend's thread for the same core: the
    p99 of a frame's way to its label was 17.9 ms with it and 13.0 without (EfficientNet-Lite0, FP32, 2 cores; INT8: 12.8
    and 7.7), the median the same.
    """
    import cv2

    infers_elsewhere = runner.device == "cpu" and runner.backend != "opencv"
    cv2.setNumThreads(1 if infers_elsewhere else threads or _DEFAULT)


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
