"""The learning rate's schedule: its value at every step of a training stage."""

from __future__ import annotations

import math

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from ...options import OptimizerOptions

_FEWEST_STEPS = 10
"""Of fewer steps, a schedule would spend most at a rate near 0."""


def make_schedule(
    optimizer: torch.optim.Optimizer, options: OptimizerOptions, epochs: int, steps: int
) -> LRScheduler | None:
    """Return the schedule, which moves after every step; None if there are too few.  steps: of an epoch."""
    total, warm = epochs * steps, round(options.warmup * steps)
    if total < _FEWEST_STEPS:
        return None
    if options.schedule == "onecycle":
        return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=total)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        if options.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))
        if options.schedule == "step":
            return float(options.step_factor ** (step // steps // options.step_epochs))
        return 1.0

    return LambdaLR(optimizer, factor)
