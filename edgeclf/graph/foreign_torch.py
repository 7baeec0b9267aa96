"""Exports torch modules and TorchScript files of other programs as ONNX, and runs them for comparison."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeclf_runtime.runners.base import brief

from ..errors import ModelError
from ..targets import OPSET
from .onnx_file import export_torch

if TYPE_CHECKING:
    import onnx
    import torch

_ADVICE = f"export it to ONNX yourself, with opset {OPSET} if you can, and import that file"


def load_torchscript(path: Path) -> torch.nn.Module:
    """Load a TorchScript file that :func:`foreign_file.check_torchscript` accepted, on the CPU.

    It runs TorchScript's operators, never Python code.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces the end of TorchScript
            return torch.jit.load(str(path), map_location="cpu").eval()
    except Exception as error:  # any of torch's
        raise ModelError(f"torch cannot load {path} ({brief(error)}); {_ADVICE}") from None


def own_copy(module: torch.nn.Module) -> torch.nn.Module:
    """Return a module's copy on the CPU, in evaluation mode and float32, with one tensor as its output."""
    from torch import nn

    class OneOutput(nn.Module):
        """Some libraries return a tuple, or an object with ``logits``."""

        def __init__(self) -> None:
            super().__init__()
            self.module = copy.deepcopy(module).cpu().float()

        def forward(self, pixels: torch.Tensor) -> Any:
            found = self.module(pixels)
            if isinstance(found, dict) and "logits" in found:
                return found["logits"]
            return getattr(found, "logits", found[0] if isinstance(found, (tuple, list)) else found)

    return OneOutput().eval()


def export_module(module: torch.nn.Module, shape: tuple[int, ...], name: str) -> onnx.ModelProto:
    """Return a module that takes float32 of ``shape`` as onnx.ModelProto; ModelError if torch cannot export it."""
    try:
        return export_torch(module, shape, "pixels", "scores")
    except Exception as error:  # torch raises many kinds, the module's own code any
        raise ModelError(f"torch cannot export {name} with opset {OPSET} ({brief(error)}); {_ADVICE}") from None


def run_module(module: torch.nn.Module, batch: np.ndarray) -> np.ndarray:
    """Return a module's output for one batch."""
    import torch

    with torch.inference_mode():
        return np.asarray(module(torch.from_numpy(batch)).numpy())
