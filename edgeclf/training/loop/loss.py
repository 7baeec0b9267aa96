"""The objective of a training step: the loss of a network on a batch that is blended, attacked, and taught by a teacher."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ...options import LossOptions, TrainOptions
from .attack import attacked
from .mixup import blending

NO_TARGET = -1
"""Target of an image that only fills up a batch, or has no label."""
_STEP = 1.25
"""Step of an attack in training, in eps, as Wong et al. chose."""


class Objective(nn.Module):
    """The loss of a network on a batch.

    forward: network; inputs float [N, height, width, 3], or features float [N, features]; targets as :class:`Loss` takes them;
    indices of the images, int [N]
    """

    def __init__(
        self,
        options: TrainOptions,
        classes: int,
        weights: np.ndarray | None = None,
        taught: np.ndarray | None = None,
    ) -> None:
        """Weights: of the labels, in the loss.  taught: the teacher's logits of the images, float [images, classes]."""
        super().__init__()
        self.classes, self.eps = classes, options.adversarial
        self.loss: nn.Module = Loss(options, weights)
        self.taught: torch.Tensor | None = None
        if taught is not None:
            self.loss = TaughtLoss(self.loss, options.teacher_share, options.teacher_temperature)
            self.taught = (torch.from_numpy(taught).float() / options.teacher_temperature).softmax(1)
        self.blend = blending(options, classes if taught is None else 2 * classes)

    def forward(
        self, network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, indices: torch.Tensor
    ) -> torch.Tensor:
        if self.taught is not None:
            # Side by side, so that both are blended alike.
            soft = self.taught[indices.cpu()].to(inputs.device)
            targets = torch.cat([probabilities(targets, self.classes), soft], 1)
        if self.blend is not None:
            inputs, targets = self.blend(inputs, targets)
        if self.eps:
            inputs = self._attacked(network, inputs, targets)
        loss: torch.Tensor = self.loss(network(inputs).float(), targets)
        return loss

    def _attacked(self, network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the images after one step from a random start that raises the loss (Wong et al. 2020, "Fast is better than free")."""
        start = inputs + torch.empty_like(inputs).uniform_(-self.eps, self.eps)
        return attacked(
            lambda changed: self.loss(network(changed).float(), targets), inputs, self.eps, start, _STEP * self.eps
        )


class TaughtLoss(nn.Module):
    """A loss over the labels, and the divergence from a teacher's probabilities (Hinton et al. 2015).

    forward: logits float [N, classes]; targets float [N, 2 x classes], those of the labels, and the teacher's probabilities at
    the temperature.  An image without a label has zeros as the former.  The divergence is multiplied by the square of the
    temperature, since its gradients shrink by that.
    """

    def __init__(self, loss: nn.Module, share: float, temperature: float) -> None:
        super().__init__()
        self.loss, self.share, self.temperature = loss, share, temperature

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        own, soft = targets.chunk(2, 1)
        logs = (logits / self.temperature).log_softmax(1)
        divergence = nn.functional.kl_div(logs, soft, reduction="batchmean") * self.temperature**2
        loss: torch.Tensor = (1 - self.share) * self.loss(logits, own) + self.share * divergence
        return loss


def probabilities(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Return targets as float [N, classes]; zeros for NO_TARGET."""
    if targets.ndim == 2:
        return targets
    return nn.functional.one_hot(targets.clamp(min=0), classes).float() * (targets >= 0)[:, None]


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
        if not self.gamma and targets.ndim == 1:
            return nn.functional.cross_entropy(
                logits, targets, self.weights, ignore_index=NO_TARGET, label_smoothing=self.smoothing
            )
        classes = logits.shape[1]
        if targets.ndim == 1:
            targets = nn.functional.one_hot(targets, classes)
        # A row has the sum one, or, of an image without a label, zero.
        targets = targets * (1 - self.smoothing) + self.smoothing / classes * targets.sum(1, keepdim=True)
        if self.weights is not None:
            targets = targets * self.weights
        logs = logits.log_softmax(1)
        return -(targets * (1 - logs.exp()) ** self.gamma * logs).sum(1).mean()


def class_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return a weight for each label, so that each counts as much as the others; float [classes].

    targets: int [images], or probabilities float [images, classes]
    """
    labels = labels_of(targets)
    counts = np.bincount(labels[labels != NO_TARGET], minlength=classes)
    return np.divide(counts.sum(), classes * counts, out=np.zeros(classes), where=counts > 0)


def labels_of(targets: np.ndarray) -> np.ndarray:
    """Return the likeliest label of each target: int [images]; NO_TARGET if there is none."""
    return targets if targets.ndim == 1 else np.where(targets.any(1), targets.argmax(1), NO_TARGET)


def count_labeled(targets: np.ndarray) -> int:
    """Return the number of images that have a label."""
    return int((labels_of(targets) != NO_TARGET).sum())
