"""The optimizer: which parameters get which learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ...options import OptimizerOptions


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
