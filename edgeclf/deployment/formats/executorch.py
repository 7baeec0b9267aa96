"""ExecuTorch (.pte) for phones and microcontrollers, with XNNPACK's kernels for processors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.runners.base import ModelPath, Outputs, Runner

from .base import Source

if TYPE_CHECKING:
    import numpy as np


def write(source: Source, path: Path) -> None:
    """Write one program with the method ``forward``; it has no metadata."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with torch.no_grad():
        exported = torch.export.export(source.network, (source.example,))
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)


def load(path: Path, threads: int) -> Runner:
    """Load it with ExecuTorch's runtime."""
    return _ExecuTorchRunner(path, threads)


class _ExecuTorchRunner(Runner):
    """A program of our own, one image at a time."""

    backend = "executorch"
    title = "ExecuTorch"

    def _load(self, model_path: ModelPath, threads: int | None) -> None:
        from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
        from executorch.runtime import Runtime

        if threads:
            _unsafe_reset_threadpool(threads)
        self._program: Any = Runtime.get().load_program(str(model_path))
        self._method: Any = self._program.load_method("forward")

    def _infer(self, batch: np.ndarray) -> Outputs:
        import torch

        logits: np.ndarray = self._method.execute([torch.from_numpy(batch)])[0].numpy()
        return Outputs(logits.copy())

    def _free(self) -> None:
        self._method = self._program = None
