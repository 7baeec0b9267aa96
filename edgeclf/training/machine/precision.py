"""The precision of the layers: float32, or 16 bits for most of them; the weights stay in float32."""

from __future__ import annotations

import contextlib

import torch

from ...options import TrainOptions

FULL = "32-true"
"""The names are those of lightning.Trainer."""
BFLOAT16 = "bf16-mixed"
MEASURED = "measured"
"""To be decided by :func:`..loop.trials.fastest_precision`."""


def mixed(device: torch.device) -> str:
    """Return the mixed precision that a device has; a GPU before Ampere has float16 only."""
    return BFLOAT16 if device.type == "cpu" or torch.cuda.is_bf16_supported() else "16-mixed"


def precision_of(options: TrainOptions, device: torch.device) -> str:
    """Return the precision that options ask for, or MEASURED."""
    if options.compute == "fastest":
        return MEASURED
    if options.compute == "mixed" or (options.compute == "auto" and device.type == "cuda"):
        return mixed(device)
    return FULL


def computing(precision: str, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a block that computes as lightning.Trainer does; float16, which needs scaled losses, is float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == BFLOAT16 else contextlib.nullcontext()
