"""OpenVINO, 2023.1 and later, on the CPU: x86 boxes whose INT8 networks it runs faster than ONNX Runtime, as ResNet-18.

Tried after ONNX Runtime, which is faster with others; ``--tune`` measures both.
Source: https://docs.openvino.ai, "Performance Hints and Thread Scheduling", "Precision Control".
"""

import contextlib
import sys
import threading
from typing import Any

from ..bundle.model_file import model_bytes
from ..device.machine import quota_cores
from ..device.remedies import install, pip
from ..errors import BackendError
from .base import Runner, importing, installed_version

# On a processor with BF16 or FP16 "f32" files would be computed in those, and differ from the golden images.
_OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
_TELEMETRY = "openvino_telemetry"
_OLDEST, _OLDEST_PYTHON = "2023.1", (3, 8)
_hiding = threading.Lock()


def version():
    """Return OpenVINO's version."""
    return installed_version("openvino", "openvino")


@contextlib.contextmanager
def without_telemetry():
    """Hide the package ``openvino_telemetry`` while the block imports OpenVINO, or what else would report by it.

    OpenVINO looks up an address of Google's as soon as it is imported, and writes an id to ~/intel; no variable of its
    own stops it, and the switch that it offers is a file in the user's home.  Without the package it has a stub.
    """
    with _hiding:
        found = {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] == _TELEMETRY}
        for name in found:
            del sys.modules[name]
        # Python's way to say that a module cannot be imported.
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.modules.pop(_TELEMETRY, None)
            sys.modules.update(found)


def check_python(python):
    """Raise BackendError for a Python, (3, 6), for which pip has older versions of OpenVINO only."""
    if python < _OLDEST_PYTHON:
        raise BackendError(
            "OpenVINO {} or later is needed, which is for Python {}.{} and later, not {}.{}: use another backend".format(
                _OLDEST, *_OLDEST_PYTHON + tuple(python)
            )
        )


def _core(openvino):
    if not hasattr(openvino, "Core"):  # before 2023.1 it was elsewhere
        check_python(sys.version_info[:2])
        newer = pip("'openvino>={}'".format(_OLDEST))
        found = "OpenVINO {}".format(getattr(openvino, "__version__", "")).rstrip()  # an old one may have none
        raise BackendError("{} is too old; {} or later is needed: {}".format(found, _OLDEST, newer))
    with importing("OpenVINO", lambda: install("openvino")):
        return openvino.Core()


class OpenVinoRunner(Runner):
    """A model on OpenVINO's CPU plug-in.

    threads     threads of an inference; None leaves the choice to OpenVINO
    """

    backend = "openvino"
    title = "OpenVINO"

    def _load(self, model_path, threads):
        with importing(self.title, lambda: install("openvino")), without_telemetry():
            try:
                import openvino
            except ModuleNotFoundError:
                check_python(sys.version_info[:2])
                raise
        core: Any = _core(openvino)
        self.version = version()
        threads = threads or quota_cores()
        options = dict(_OPTIONS, **({"INFERENCE_NUM_THREADS": threads} if threads else {}))
        model = core.read_model(model_bytes(model_path))
        # Of a fixed size it is faster.
        model.reshape([1] + [size.get_length() for size in list(model.inputs[0].partial_shape)[1:]])
        self._model: Any = core.compile_model(model, "CPU", options)

    def _infer(self, batch):
        import numpy as np

        return np.concatenate([self._model([batch[i : i + 1]])[0] for i in range(len(batch))])

    def _free(self):
        self._model = None
