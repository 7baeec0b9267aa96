"""TorchScript, for C++ programs with libtorch and for torch on phones; torch announces its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.runners.base import ModelPath, Outputs, Runner

from .base import Source

if TYPE_CHECKING:
    import numpy as np
    import torch

FACTS = "edgeclf.json"
"""Extra file in the archive: labels and preprocessing."""


def write(source: Source, path: Path) -> None:
    """Write one archive, with the labels in the extra file FACTS."""
    import torch

    with torch.no_grad():
        traced = torch.jit.trace(source.network, source.example, check_trace=False)
        torch.jit.save(traced, str(path), _extra_files={FACTS: source.text})


def load(path: Path, threads: int) -> TorchFileRunner:
    """Load it with torch."""
    return TorchScriptRunner(path, threads)


class TorchFileRunner(Runner):
    """A file of torch, on the CPU."""

    backend = title = "torch"
    _module: Any

    def _load(self, model_path: ModelPath, threads: int | None) -> None:
        import torch

        torch.set_num_threads(threads or torch.get_num_threads())
        self.version = torch.__version__
        self._module = self._open(str(model_path))

    def _open(self, path: str) -> Callable[[torch.Tensor], torch.Tensor]:
        raise NotImplementedError

    def _infer(self, batch: np.ndarray) -> Outputs:
        import torch

        with torch.no_grad():
            return Outputs(self._module(torch.from_numpy(batch)).numpy())

    def _free(self) -> None:
        self._module = None


class TorchScriptRunner(TorchFileRunner):
    """A TorchScript file of our own."""

    def _open(self, path: str) -> Callable[[torch.Tensor], torch.Tensor]:
        import torch

        return torch.jit.load(path, map_location="cpu").eval()
