"""The inference backends, in one table; each is imported only when it is opened."""

import importlib

from ..errors import BackendError

# Backend: module and class.
RUNNERS = {
    "onnxruntime": ("ort", "OnnxRuntimeRunner"),
}


def open_runner(backend, model_path, threads=None):
    """Open a model file on a backend.

    Returns a Runner (see ``base.py``).  Raises BackendError where the backend's name is not
    known, its library is missing, or it refuses the model.
    """
    if backend not in RUNNERS:
        raise BackendError("there is no backend {!r}; there are {}".format(backend, ", ".join(sorted(RUNNERS))))
    module, name = RUNNERS[backend]
    return getattr(importlib.import_module("." + module, __name__), name)(model_path, threads=threads)
