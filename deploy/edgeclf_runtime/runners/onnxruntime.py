"""ONNX Runtime, 1.10 (Python 3.6) and later: float models on the GPU if its build can use one, otherwise on the CPU."""

import contextlib
import importlib.util
import io
import logging
import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Dict, Iterator, List, Optional, TextIO, Tuple, Union

from ..bundle.model_file import model_bytes
from ..device.machine import inference_threads, read_text
from ..device.remedies import install
from ..errors import BackendError
from .base import Outputs, Runner, brief, importing, library_errors, output_order

if TYPE_CHECKING:
    from types import ModuleType

    from onnxruntime import InferenceSession, OrtEpDevice

    # The name of a provider, or that and its options.
    Provider = Union[str, Tuple[str, Dict[str, str]]]

    import numpy as np

    from .base import ModelPath

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_CUDA_LIBRARY = "libonnxruntime_providers_cuda.so"
# TF32, the default on Ampere and newer GPUs, rounds more than the golden images' tolerance allows; older versions refuse
# the option.
_CUDA_FORMS = ((_CUDA, {"use_tf32": "0"}), _CUDA)
# Idle threads would spin while they wait for the next frame: they take a core each, and keep OpenCV's threads from
# preprocessing that frame.
_CONFIG = {"session.force_spinning_stop": "1"}
# It moves QuantizeLinear in front of a MaxPool, which then pools 8 bits in a slow layout.
_DISABLED = ["QDQPropagationTransformer"]
_log = logging.getLogger(__name__)
_diverting = threading.Lock()


def version() -> str:
    """Return ONNX Runtime's version, and whether its build has CUDA; it is imported only if that does not show otherwise."""
    return (_version_in_file() or _imported_version()) + (" with CUDA" if has_cuda() else "")


def _imported_version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _version_in_file() -> str:
    """Return the version as ``onnxruntime/__init__.py`` states it, or "": importing it takes a quarter of a second."""
    spec = None if "onnxruntime" in sys.modules else importlib.util.find_spec("onnxruntime")
    found = re.search(r'^__version__ = "([^"]+)"', read_text(spec.origin or "") or "" if spec else "", re.MULTILINE)
    return found.group(1) if found else ""


def has_cuda() -> bool:
    """Return whether ONNX Runtime's build has CUDA.  It is not imported for this, since TensorRT may make it unnecessary."""
    try:
        with library_errors("onnxruntime cannot be examined"):
            return _knows_cuda()
    except BackendError:
        return False  # opening it reports what is wrong


def _knows_cuda() -> bool:
    loaded = sys.modules.get("onnxruntime")
    if loaded:
        return _CUDA in getattr(loaded, "get_available_providers", list)()
    found = importlib.util.find_spec("onnxruntime")
    folders = (found and found.submodule_search_locations) or ()
    return any(os.path.exists(os.path.join(folder, "capi", _CUDA_LIBRARY)) for folder in folders)


class OnnxRuntimeRunner(Runner):
    """A float model on ONNX Runtime's CUDA provider if that works; other models on its CPU provider.

    threads         number of threads for an operator; None: one for each physical core, or OMP_NUM_THREADS
    config          further session options of ONNX Runtime, str to str
    """

    backend = title = "onnxruntime"
    # "Multiple threads can invoke the Run() method on the same inference session object", says its C API.
    concurrent = True

    def _load(self, model_path: "ModelPath", threads: Optional[int], config: Optional[Dict[str, str]] = None) -> None:
        with importing("onnxruntime", lambda: install("onnxruntime")):
            import onnxruntime
        self.version = onnxruntime.__version__
        self._session, self.device = self._open(onnxruntime, model_path, threads, config)
        # Not tried on GPUs.
        self.concurrent = self.device == "cpu"
        self._input = self._session.get_inputs()[0].name
        names = [output.name for output in self._session.get_outputs()]
        self._outputs = [names[index] for index in output_order(names)]

    def _bytes(self, model_path: "ModelPath") -> bytes:
        return model_bytes(model_path)

    def _open(
        self,
        onnxruntime: "ModuleType",
        model_path: "ModelPath",
        threads: Optional[int],
        config: Optional[Dict[str, str]],
    ) -> "Tuple[InferenceSession, str]":
        return _open_session(onnxruntime, self._bytes(model_path), threads, config)

    @property
    def metadata(self) -> Dict[str, str]:
        """The metadata in the model file."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def _infer(self, batch: "np.ndarray") -> Outputs:
        return Outputs(*self._session.run(self._outputs, {self._input: batch}))

    def _free(self) -> None:
        self._session = None


def _open_session(
    onnxruntime: "ModuleType", model: bytes, threads: Optional[int], config: Optional[Dict[str, str]]
) -> "Tuple[InferenceSession, str]":
    """Return a session and the device that it computes on."""
    # The CUDA provider has no INT8 convolution: it converts to float and back around each one.
    if _CUDA in onnxruntime.get_available_providers() and b"QuantizeLinear" not in model:
        for provider in _CUDA_FORMS:
            session, reason = _try_cuda(onnxruntime, model, threads, config, provider)
            if session:
                return session, "cuda"
        _log.warning("onnxruntime %s uses the CPU, CUDA failed: %s", onnxruntime.__version__, reason)
    return new_session(onnxruntime, model, threads, config, [_CPU]), "cpu"


def _try_cuda(
    onnxruntime: "ModuleType",
    model: bytes,
    threads: Optional[int],
    config: Optional[Dict[str, str]],
    provider: "Provider",
) -> "Tuple[Optional[InferenceSession], str]":
    """Return a session on the GPU and "", or None and the reason."""
    try:
        with _own_stdout() as said:
            session = new_session(onnxruntime, model, threads, config, [provider, _CPU])
            # Some failures, such as a GPU that the build has no code for, show only at the first inference.
            session.run(None, {session.get_inputs()[0].name: _zeros(session)})
        if session.get_providers()[0] == _CUDA:
            return session, ""
        return None, said.getvalue().strip() or "no reason was given"
    except Exception as error:  # anything that CUDA, cuDNN or their loader raise: the CPU remains
        return None, brief(error)


@contextlib.contextmanager
def _own_stdout() -> "Iterator[_Captured]":
    """Capture what this thread prints to stdout, which is for results: ONNX Runtime prints when it falls back by itself."""
    with _diverting:
        stream = sys.stdout
        said = _Captured(stream)
        sys.stdout = said  # type: ignore[assignment]
        try:
            yield said
        finally:
            sys.stdout = stream


class _Captured(io.StringIO):
    """Holds the output of the thread that created it; other threads' output, such as results, is passed to a stream."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream, self._thread = stream, threading.get_ident()

    @property
    def encoding(self) -> Optional[str]:  # type: ignore[override]
        return getattr(self._stream, "encoding", None)

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def write(self, text: str) -> int:
        return super().write(text) if threading.get_ident() == self._thread else int(self._stream.write(text))

    def flush(self) -> None:
        if threading.get_ident() != self._thread:
            self._stream.flush()


def new_session(
    onnxruntime: "ModuleType",
    model: bytes,
    threads: Optional[int],
    config: Optional[Dict[str, str]],
    providers: "Optional[List[Provider]]" = None,
    devices: "Optional[List[OrtEpDevice]]" = None,
) -> "InferenceSession":
    """Return a session for a model's bytes on named providers, or on devices that a plug-in has found."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in dict(_CONFIG, **(config or {})).items():
        options.add_session_config_entry(key, value)
    # ONNX Runtime would start as many, but bind each to a processor: an inference whose own thread is on one of those
    # processors takes longer.
    options.intra_op_num_threads = threads or inference_threads()
    if devices:
        options.add_provider_for_devices(devices, {})
    session = onnxruntime.InferenceSession(model, options, providers=providers, disabled_optimizers=_DISABLED)
    # The classifier handles a failed inference; ONNX Runtime would print and continue with another provider.
    session.disable_fallback()
    return session


def _zeros(session: "InferenceSession") -> "np.ndarray":
    import numpy as np

    return np.zeros([size if isinstance(size, int) else 1 for size in session.get_inputs()[0].shape], np.float32)
