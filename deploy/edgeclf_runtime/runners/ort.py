"""ONNX Runtime, 1.10 (Python 3.6) and later: on the GPU where its build can use one, else on the CPU."""

import contextlib
import io
import logging
import sys

from ..errors import BackendError, EdgeclfError
from ..machine import physical_cores
from ..model_file import model_bytes
from .base import Runner

# The last version with an aarch64 CPU wheel for each Python that a JetPack ships.
_LAST_VERSION = {(3, 6): "==1.10.0", (3, 8): "==1.19.2", (3, 10): "==1.23.2"}
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# TF32, the default of GPUs since Ampere, rounds more than the golden images' tolerance allows; older versions do not
# know the option and refuse it.
_CUDA_FORMS = ((_CUDA, {"use_tf32": "0"}), _CUDA)
# Idle threads that spin wait for the next frame with a core each: 1.2 of 2 cores at 50 frames a second, 0.5 without.  They
# also keep OpenCV's thread from helping with that frame: its way to the label was 8.06 ms with 1 ms of spinning, 8.16 with
# ONNX Runtime's default, 7.73 without (EfficientNet-Lite0 of 256 x 256 on 2 cores; INT8: 4.18, 4.26, 4.07).
_CONFIG = {"session.force_spinning_stop": "1"}
# It moves QuantizeLinear in front of a MaxPool, which then pools 8 bits in a slow layout: ResNet-18's INT8 file took 8.7 ms
# with it and 6.5 without (1.31, 2 threads), 15.8 and 11.3 (1.10, 1 thread); EfficientNet-Lite0's as long as before.
_DISABLED = ["QDQPropagationTransformer"]
_log = logging.getLogger(__name__)


def version():
    """Return ONNX Runtime's version, and whether its build knows CUDA."""
    import onnxruntime

    return onnxruntime.__version__ + (" with CUDA" if _CUDA in onnxruntime.get_available_providers() else "")


class OnnxRuntimeRunner(Runner):
    """A model on ONNX Runtime, by its CUDA provider where that works, else by its CPU provider.

    threads         threads inside an operator; None leaves the choice to ONNX Runtime
    config          more of ONNX Runtime's session options, str to str
    """

    backend = "onnxruntime"
    # "Multiple threads can invoke the Run() method on the same inference session object", says its C API.
    concurrent = True

    def __init__(self, model_path, threads=None, config=None):
        try:
            import onnxruntime
        except ImportError as error:
            raise BackendError(
                "onnxruntime is not there for {} ({}); install it: {} -m pip install onnxruntime{}".format(
                    sys.executable, error, sys.executable, _LAST_VERSION.get(sys.version_info[:2], "")
                )
            )
        try:
            self._session, self.device = self._open(onnxruntime, model_path, threads, config)
        except EdgeclfError:
            raise
        except Exception as error:  # ONNX Runtime's own exceptions share no root of theirs
            raise BackendError("onnxruntime {} cannot load {}: {}".format(onnxruntime.__version__, model_path, error))
        # Of GPUs it was not tried.
        self.concurrent = self.device == "cpu"
        self._input = self._session.get_inputs()[0].name
        self._outputs = [self._session.get_outputs()[0].name]

    def _open(self, onnxruntime, model_path, threads, config):
        return _open_session(onnxruntime, model_bytes(model_path), threads, config)

    @property
    def metadata(self):
        """The model file's own metadata, str to str."""
        return self._session.get_modelmeta().custom_metadata_map

    def infer(self, batch):
        try:
            return self._session.run(self._outputs, {self._input: batch})[0]
        except Exception as error:  # see above
            raise BackendError("onnxruntime failed on a batch of shape {}: {}".format(list(batch.shape), error))

    def close(self):
        self._session = None


def _open_session(onnxruntime, model, threads, config):
    """Return a session and the device that it computes on."""
    if _CUDA in onnxruntime.get_available_providers():
        for provider in _CUDA_FORMS:
            session, reason = _try_cuda(onnxruntime, model, threads, config, provider)
            if session:
                return session, "cuda"
        _log.warning("onnxruntime %s uses the CPU, CUDA failed: %s", onnxruntime.__version__, reason)
    return new_session(onnxruntime, model, threads, config, [_CPU]), "cpu"


def _try_cuda(onnxruntime, model, threads, config, provider):
    """Return a session on the GPU, or None and the reason why there is none."""
    said = io.StringIO()
    try:
        # It tells stdout, which belongs to results, when it falls back by itself.
        with contextlib.redirect_stdout(said):
            session = new_session(onnxruntime, model, threads, config, [provider, _CPU])
            # Some failures, as a GPU that the build has no code for, show with the first inference alone.
            session.run(None, {session.get_inputs()[0].name: _zeros(session)})
        if session.get_providers()[0] == _CUDA:
            return session, ""
        return None, said.getvalue().strip() or "no reason was given"
    except Exception as error:  # whatever CUDA, cuDNN or their loader raise: the CPU is left
        return None, str(error)


def new_session(onnxruntime, model, threads, config, providers=None, devices=None):
    """Return a session of a model's bytes on providers by name, or on devices that a plug-in has found."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in dict(_CONFIG, **(config or {})).items():
        options.add_session_config_entry(key, value)
    # As many as it would take by itself; but those it would bind to a processor each, and an inference whose own thread
    # is on one of those at that time takes twice as long: one in four at 30 frames a second on two processors.
    options.intra_op_num_threads = threads or physical_cores()
    if devices:
        options.add_provider_for_devices(devices, {})
    session = onnxruntime.InferenceSession(model, options, providers=providers, disabled_optimizers=_DISABLED)
    # A failed inference is the classifier's to answer; ONNX Runtime would print and go on with another provider.
    session.disable_fallback()
    return session


def _zeros(session):
    import numpy as np

    return np.zeros([size if isinstance(size, int) else 1 for size in session.get_inputs()[0].shape], np.float32)
