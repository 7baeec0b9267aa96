"""The loss, and the blending of images and their targets that goes with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torchvision.transforms import v2

from ...options import LossOptions

Blend = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
NO_TARGET = -1
"""Target of an image that only fills up a batch."""


class Loss(nn.Module):
    """Cross-entropy or focal loss (Lin et al. 2017, over softmax), averaged over a batch.

    forward: logits float [N, classes]; targets int [N], or probabilities float [N, classes]
    """

    weights: torch.Tensor | None

    def __init__(self, options: LossOptions, weights: np.ndarray | None = None) -> None:
        super().__init__()
        self.gamma = options.focal_gamma if options.loss == "focal" else 0.0
        self.smoothing = options.label_smoothing
        self.register_buffer("weights", None if weights is None else torch.from_numpy(weights).float(), False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if not self.gamma:
            return nn.functional.cross_entropy(
                logits, targets, self.weights, ignore_index=NO_TARGET, label_smoothing=self.smoothing
            )
        classes = logits.shape[1]
        if targets.ndim == 1:
            targets = nn.functional.one_hot(targets, classes)
        targets = targets * (1 - self.smoothing) + self.smoothing / classes
        if self.weights is not None:
            targets = targets * self.weights
        logs = logits.log_softmax(1)
        return -(targets * (1 - logs.exp()) ** self.gamma * logs).sum(1).mean()


def class_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return a weight for each label, so that each counts as much as the others; float [classes].

    targets: int [images], or probabilities float [images, classes]
    """
    counts = np.bincount(labels_of(targets), minlength=classes)
    return np.divide(len(targets), classes * counts, out=np.zeros(classes), where=counts > 0)


def labels_of(targets: np.ndarray) -> np.ndarray:
    """Return the likeliest label of each target: int [images]."""
    return targets if targets.ndim == 1 else targets.argmax(1)


def blending(options: LossOptions, classes: int) -> Blend | None:
    """Return MixUp (Zhang et al. 2018), CutMix (Yun et al. 2019) or either at random; None if neither is asked for.

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
