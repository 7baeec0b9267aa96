"""OpenVINO's IR: model.xml and model.bin, converted from the ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.runners.base import ModelPath, Outputs, Runner
from edgeclf_runtime.runners.openvino import without_telemetry

from ...evaluation.metadata import METADATA_KEY, MODEL_INFO
from .base import Source

if TYPE_CHECKING:
    import numpy as np

_FILE = "model.xml"


def write(source: Source, path: Path) -> None:
    """Write the two files into a folder, with the labels for OpenVINO's Model API (``model_info``)."""
    with without_telemetry():
        import openvino
    with source.onnx_file() as file:
        model = openvino.Core().read_model(str(file))
    for key, value in source.metadata.items():
        if key == METADATA_KEY or key.startswith(f"{MODEL_INFO} "):
            model.set_rt_info(value, key.split())
    openvino.save_model(model, str(path / _FILE), compress_to_fp16=False)


def load(path: Path, threads: int) -> Runner:
    """Load them with OpenVINO."""
    return _IrRunner(path / _FILE, threads)


class _IrRunner(Runner):
    """An IR of our own, on OpenVINO's CPU plug-in."""

    backend = "openvino"
    title = "OpenVINO"

    def _load(self, model_path: ModelPath, threads: int | None) -> None:
        with without_telemetry():
            import openvino
        self.version = openvino.__version__.partition("-")[0]
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        options["INFERENCE_NUM_THREADS"] = str(threads or 0)
        core = openvino.Core()
        model = core.read_model(str(model_path))
        self._any: Any = core.compile_model(model, "CPU", options)
        # A fixed size is faster.
        model.reshape([1, *[size.get_length() for size in list(model.inputs[0].partial_shape)[1:]]])
        self._one: Any = core.compile_model(model, "CPU", options)

    def _infer(self, batch: np.ndarray) -> Outputs:
        model = self._one if len(batch) == 1 else self._any
        logits: np.ndarray = model([batch])[0]
        return Outputs(logits.copy())

    def _free(self) -> None:
        self._any = self._one = None
