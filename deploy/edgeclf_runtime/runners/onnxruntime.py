"""ONNX Runtime, 1.10 (Python 3.6) and later: float models on the GPU if its build can use one, else on the CPU."""

import contextlib
import importlib.util
import io
import logging
import os
import sys
import threading

from ..bundle.model_file import model_bytes
from ..device.machine import physical_cores
from ..device.remedies import install
from ..errors import BackendError
from .base import Runner, brief, importing, library_errors

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_CUDA_LIBRARY = "libonnxruntime_providers_cuda.so"
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
_diverting = threading.Lock()


def version():
    """Return ONNX Runtime's version, and whether its build knows CUDA."""
    import onnxruntime

    return onnxruntime.__version__ + (" with CUDA" if _CUDA in onnxruntime.get_available_providers() else "")


def has_cuda():
    """Whether ONNX Runtime's build here knows CUDA.  It is not imported for that: with TensorRT it may not be needed."""
    try:
        with library_errors("onnxruntime cannot be looked for"):
            return _knows_cuda()
    except BackendError:
        return False  # opening it says what is wrong


def _knows_cuda():
    loaded = sys.modules.get("onnxruntime")
    if loaded:
        return _CUDA in getattr(loaded, "get_available_providers", list)()
    found = importlib.util.find_spec("onnxruntime")
    folders = (found and found.submodule_search_locations) or ()
    return any(os.path.exists(os.path.join(folder, "capi", _CUDA_LIBRARY)) for folder in folders)


class OnnxRuntimeRunner(Runner):
    """A float model on ONNX Runtime by its CUDA provider if that works; any other by its CPU provider.

    threads         threads inside an operator; None leaves the choice to ONNX Runtime
    config          more of ONNX Runtime's session options, str to str
    """

    backend = title = "onnxruntime"
    # "Multiple threads can invoke the Run() method on the same inference session object", says its C API.
    concurrent = True

    def _load(self, model_path, threads, config=None):
        with importing("onnxruntime", lambda: install("onnxruntime")):
            import onnxruntime
        self.version = onnxruntime.__version__
        self._session, self.device = self._open(onnxruntime, model_path, threads, config)
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

    def _infer(self, batch):
        return self._session.run(self._outputs, {self._input: batch})[0]

    def _free(self):
        self._session = None


def _open_session(onnxruntime, model, threads, config):
    """Return a session and the device that it computes on."""
    # The CUDA provider has no INT8 convolution: it converts to float and back around each one.
    if _CUDA in onnxruntime.get_available_providers() and b"QuantizeLinear" not in model:
        for provider in _CUDA_FORMS:
            session, reason = _try_cuda(onnxruntime, model, threads, config, provider)
            if session:
                return session, "cuda"
        _log.warning("onnxruntime %s uses the CPU, CUDA failed: %s", onnxruntime.__version__, reason)
    return new_session(onnxruntime, model, threads, config, [_CPU]), "cpu"


def _try_cuda(onnxruntime, model, threads, config, provider):
    """Return a session on the GPU, or None and the reason why there is none."""
    try:
        with _own_stdout() as said:
            session = new_session(onnxruntime, model, threads, config, [provider, _CPU])
            # Some failures, as a GPU that the build has no code for, show with the first inference alone.
            session.run(None, {session.get_inputs()[0].name: _zeros(session)})
        if session.get_providers()[0] == _CUDA:
            return session, ""
        return None, said.getvalue().strip() or "no reason was given"
    except Exception as error:  # whatever CUDA, cuDNN or their loader raise: the CPU is left
        return None, brief(error)


@contextlib.contextmanager
def _own_stdout():
    """Keep what this thread prints to stdout, which belongs to results: ONNX Runtime prints when it falls back by itself."""
    with _diverting:
        stream = sys.stdout
        said = sys.stdout = _Said(stream)
        try:
            yield said
        finally:
            sys.stdout = stream


class _Said(io.StringIO):
    """Holds what the thread that made it prints; what others print, results too, goes on to a stream."""

    def __init__(self, stream):
        super().__init__()
        self._stream, self._thread = stream, threading.get_ident()

    @property
    def encoding(self):  # type: ignore[override]
        return getattr(self._stream, "encoding", None)

    def fileno(self):
        return self._stream.fileno()

    def write(self, text):
        return super().write(text) if threading.get_ident() == self._thread else self._stream.write(text)

    def flush(self):
        if threading.get_ident() != self._thread:
            self._stream.flush()


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
