"""The table of formats."""

from __future__ import annotations

import importlib

from ...targets import model_file
from .base import Format, FormatModule

FORMATS = {
    one.name: one
    for one in (
        Format("onnx", "onnx", model_file("fp32"), "onnxruntime"),
        Format("torchscript", "torchscript", "model.torchscript", "torch"),
        Format("torch-export", "torch_export", "model.pt2", "torch"),
        Format(
            *("openvino", "openvino", "model.openvino", "openvino"),
            needs=(("openvino", "2026.4.1"),),
            extra="export-openvino",
            marker="model.xml",
        ),
        Format(
            *("litert", "litert", "model.tflite", "ai-edge-litert"),
            needs=(("litert-torch", "0.10.0"), ("ai-edge-litert", "2.3.0")),
            extra="export-litert",
            batch="1",
        ),
        Format(
            *("coreml", "coreml", "model.mlpackage", "coremltools"),
            needs=(("coremltools", "9.0"),),
            extra="export-coreml",
            marker="Manifest.json",
            batch="1",
        ),
        Format(
            *("executorch", "executorch", "model.pte", "executorch"),
            needs=(("executorch", "1.5.1"),),
            extra="export-executorch",
            batch="1",
        ),
        Format("timm", "timm_folder", "timm", "timm", marker="config.json"),
    )
}


def module_of(one: Format) -> FormatModule:
    """Return the module of a format; it imports the format's library in its functions."""
    return importlib.import_module(f".{one.module}", __package__)  # type: ignore[return-value]
