"""The archive of ``torch.export`` (.pt2), for torch's own compilers and converters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .base import Source
from .torchscript import FACTS, TorchFileRunner

if TYPE_CHECKING:
    import torch


def write(source: Source, path: Path) -> None:
    """Write one archive, with the labels in the extra file FACTS."""
    import torch

    # torch takes a size of 1 for a constant.
    two = torch.cat([source.example, source.example])
    sizes = ({0: torch.export.Dim("N", min=1)},)
    with torch.no_grad():
        exported = torch.export.export(source.network, (two,), dynamic_shapes=sizes)
    torch.export.save(exported, str(path), extra_files={FACTS: source.text})


def load(path: Path, threads: int) -> TorchFileRunner:
    """Load it with torch."""
    return _ExportRunner(path, threads)


class _ExportRunner(TorchFileRunner):
    """An archive of our own."""

    def _open(self, path: str) -> Callable[[torch.Tensor], torch.Tensor]:
        import torch

        return torch.export.load(path).module()
