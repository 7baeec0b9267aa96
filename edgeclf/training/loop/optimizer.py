"""The optimizer and the schedule of its rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from ...options import OptimizerOptions

_FEWEST_STEPS = 10
"""Of fewer steps, a schedule would spend most at a rate near 0."""


def make_optimizer(
    stages: Sequence[Sequence[nn.Parameter]], options: OptimizerOptions, rate: float, rate_decay: float
) -> torch.optim.Optimizer:
    """Return the optimizer of the trained parameters.

    stages: from the input to the head.  rate_decay: the rate of a stage relative to the next one.  Biases and norms, which have
    one dimension, get no weight decay (Goyal et al. 2017).
    """
    groups: list[dict[str, list[nn.Parameter] | float]] = []
    for depth, stage in enumerate(reversed(stages)):
        trained = [one for one in stage if one.requires_grad]
        for decay, chosen in (
            (options.weight_decay, [one for one in trained if one.ndim > 1]),
            (0.0, [one for one in trained if one.ndim <= 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate * rate_decay**depth, "weight_decay": decay})
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=options.momentum, nesterov=options.momentum > 0)
    return torch.optim.AdamW(groups)


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
