"""ONNX Runtime on the CPU, 1.10 (Python 3.6) and later."""

import sys

from ..errors import BackendError
from ..files import native_path
from .base import Runner

# The last version with an aarch64 CPU wheel for each Python that a JetPack ships.
_LAST_VERSION = {(3, 6): "==1.10.0", (3, 8): "==1.19.2", (3, 10): "==1.23.2"}


class OnnxRuntimeRunner(Runner):
    """A model on ONNX Runtime's CPU provider.

    threads         threads inside an operator; None leaves the choice to ONNX Runtime
    """

    backend = "onnxruntime"

    def __init__(self, model_path, threads=None):
        try:
            import onnxruntime
        except ImportError as error:
            raise BackendError(
                "onnxruntime is not there for {} ({}); install it: {} -m pip install onnxruntime{}".format(
                    sys.executable, error, sys.executable, _LAST_VERSION.get(sys.version_info[:2], "")
                )
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                native_path(model_path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no root of theirs
            raise BackendError("onnxruntime {} cannot load {}: {}".format(onnxruntime.__version__, model_path, error))
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    @property
    def metadata(self):
        """The model file's own metadata, str to str."""
        return self._session.get_modelmeta().custom_metadata_map

    def infer(self, batch):
        try:
            return self._session.run([self._output], {self._input: batch})[0]
        except Exception as error:  # see above
            raise BackendError("onnxruntime failed on a batch of shape {}: {}".format(list(batch.shape), error))

    def close(self):
        self._session = None
