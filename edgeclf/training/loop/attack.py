"""Images changed a little so that a loss rises, by the sign of its gradient; of training and of its evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch


def attacked(
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    eps: float,
    start: torch.Tensor,
    step: float,
    steps: int = 1,
) -> torch.Tensor:
    """Return images changed by at most eps levels, float [N, height, width, 3], 0 to 255.

    loss_of: the loss of such images.  start: images to begin with.  step: levels that each value changes by in each of the steps.
    """
    low, high = (images - eps).clamp(0, 255), (images + eps).clamp(0, 255)
    changed = start.clamp(low, high)
    with torch.enable_grad():
        for _ in range(steps):
            changed.requires_grad_()
            (gradient,) = torch.autograd.grad(loss_of(changed), changed)
            changed = torch.clamp(changed.detach() + step * gradient.sign(), low, high)
    return changed
