"""ONNX with opset 13, which every target reads."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

from .base import Source


def write(source: Source, path: Path) -> None:
    """Write one file."""
    with source.onnx_file() as file:
        shutil.copyfile(file, path)


def load(path: Path, threads: int) -> OnnxRuntimeRunner:
    """Load it with ONNX Runtime."""
    return OnnxRuntimeRunner(path, threads)
