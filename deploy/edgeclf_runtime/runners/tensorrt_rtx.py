"""TensorRT-RTX, NVIDIA's TensorRT for RTX cards, as a plug-in of ONNX Runtime: installed by pip with all its libraries.

It compiles for the present GPU when a model is opened, in seconds, so no engine is built ahead or cached.  It is for PCs; a
Jetson has TensorRT itself.
Source: https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries/usage.html.
"""

from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from ..device.remedies import pip
from ..errors import BackendError
from .base import brief, importing, installed_version
from .onnxruntime import OnnxRuntimeRunner, new_session

if TYPE_CHECKING:
    from types import ModuleType

    from onnxruntime import InferenceSession, OrtEpDevice

    from .base import ModelPath

_MODULE = "onnxruntime_ep_nv_tensorrt_rtx"
_PACKAGE = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
_ELSE = "or use another backend with --backend"


def version() -> str:
    """Return the plug-in's version."""
    return installed_version(_MODULE, _PACKAGE)


class TensorRtRtxRunner(OnnxRuntimeRunner):
    """A model on TensorRT-RTX, through ONNX Runtime 1.24 or later; see OnnxRuntimeRunner."""

    backend = "tensorrt-rtx"
    title = "TensorRT-RTX"

    def _open(
        self,
        onnxruntime: "ModuleType",
        model_path: "ModelPath",
        threads: Optional[int],
        config: Optional[Dict[str, str]],
    ) -> "Tuple[InferenceSession, str]":
        self.version = "with onnxruntime {}".format(onnxruntime.__version__)
        devices = _devices(onnxruntime, _plug_in())
        return new_session(onnxruntime, self._bytes(model_path), threads, config, devices=devices[:1]), "cuda"


def _plug_in() -> "ModuleType":
    with importing("ONNX Runtime's plug-in TensorRT-RTX", lambda: "{}, {}".format(pip(_PACKAGE), _ELSE)):
        import onnxruntime_ep_nv_tensorrt_rtx as plug_in
    return plug_in


def _devices(onnxruntime: "ModuleType", plug_in: "ModuleType") -> "List[OrtEpDevice]":
    """Return the GPUs that the plug-in finds; if there is none, raise BackendError with the reason."""
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise BackendError(
            "onnxruntime {} does not support plug-ins; TensorRT-RTX needs 1.24 or later: {}, {}".format(
                onnxruntime.__version__, pip("--upgrade onnxruntime"), _ELSE
            )
        )
    name = plug_in.get_ep_name()

    def found() -> "List[OrtEpDevice]":
        return [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]

    # Once registered, it stays registered for the whole process.
    if not found():
        try:
            onnxruntime.register_execution_provider_library(name, plug_in.get_library_path())
        except Exception as error:  # ONNX Runtime's own exceptions share no root of theirs
            raise BackendError(
                "TensorRT-RTX cannot be loaded ({}); it needs NVIDIA's driver for CUDA 13: install or update it, {}".format(
                    brief(error), _ELSE
                )
            )
    devices = found()
    if not devices:
        raise BackendError(
            "TensorRT-RTX finds no supported GPU; an Ampere (RTX 30) or newer RTX card was expected: see what nvidia-smi "
            "reports, {}".format(_ELSE)
        )
    return devices
