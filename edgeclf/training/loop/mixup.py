"""MixUp and CutMix, which blend the images of a batch and their targets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torchvision.transforms import v2

from ...options import LossOptions

Blend = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def blending(options: LossOptions, classes: int) -> Blend | None:
    """Return MixUp (Zhang et al. 2018), CutMix (Yun et al. 2019) or either at random; None if neither is requested.

    The function takes float [N, height, width, 3], or features float [N, features], and targets as :class:`Loss` does.
    """
    kinds = [(v2.MixUp, options.mixup), (v2.CutMix, options.cutmix)]
    blends = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha]
    if not blends:
        return None
    transform = v2.RandomChoice(blends)

    def blend(inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # Both want [N, channels, height, width].
        images = inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs[:, :, None, None]
        images, targets = transform(images, targets)
        return images.permute(0, 2, 3, 1) if inputs.ndim == 4 else images[:, :, 0, 0], targets

    return blend
