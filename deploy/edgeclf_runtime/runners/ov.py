"""OpenVINO, 2023.1 and later, on the CPU: x86 boxes whose INT8 networks it runs faster than ONNX Runtime, as ResNet-18.

Tried after ONNX Runtime, which is faster with others; ``--tune`` measures both.
Source: https://docs.openvino.ai, "Performance Hints and Thread Scheduling", "Precision Control".
"""

import sys
from typing import Any

from ..errors import BackendError
from ..model_file import model_bytes
from .base import Runner, brief, installed_version

# On a processor with BF16 or FP16 "f32" files would be computed in those, and differ from the golden images.
_OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


def version():
    """Return OpenVINO's version."""
    return installed_version("openvino", "openvino")


class OpenVinoRunner(Runner):
    """A model on OpenVINO's CPU plug-in.

    threads     threads of an inference; None leaves the choice to OpenVINO
    """

    backend = "openvino"

    def __init__(self, model_path, threads=None):
        try:
            import openvino

            core: Any = openvino.Core()
        except (ImportError, AttributeError) as error:  # before 2023.1 it was elsewhere
            raise BackendError(
                "OpenVINO is not there for {} ({}); install it: {} -m pip install openvino, 2023.1 or later".format(
                    sys.executable, error, sys.executable
                )
            )
        options = dict(_OPTIONS, **({"INFERENCE_NUM_THREADS": threads} if threads else {}))
        data = model_bytes(model_path)
        try:
            model = core.read_model(data)
            # Of a fixed size it is faster.
            model.reshape([1] + [size.get_length() for size in list(model.inputs[0].partial_shape)[1:]])
            self._model: Any = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise BackendError("OpenVINO {} cannot load {}: {}".format(version(), model_path, brief(error)))

    def infer(self, batch):
        import numpy as np

        try:
            return np.concatenate([self._model([batch[i : i + 1]])[0] for i in range(len(batch))])
        except (RuntimeError, ValueError) as error:
            raise BackendError("OpenVINO failed on a batch of shape {}: {}".format(list(batch.shape), brief(error)))

    def close(self):
        self._model = None
