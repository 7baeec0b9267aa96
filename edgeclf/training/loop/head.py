"""Trains a linear head on features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn

from ...errors import ModelError
from ...options import TrainOptions
from ..unfinished import Unfinished
from .fit import Fit, Plan
from .loaders import Batches, EpochSampler, Features, feature_loader, image_weights
from .loss import class_weights, count_labeled
from .trainer import Devices, run_fit

_SMALLEST_SCALE = 2.0
_ROWS_AT_ONCE = 4096


def fit_head(
    head: nn.Linear,
    features: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    options: TrainOptions,
    unfinished: Unfinished | None = None,
    taught: np.ndarray | None = None,
) -> Fit:
    """Train a head in place, and leave it with the weights of the best epoch.

    features, targets: by split, float32 [images x views, features], view by view, and int [images], or probabilities float
    [images, classes].  The features are standardized for training (those with a small variance less so), and the
    standardization is folded into the head at the end.  With ``options.keep_head``, training starts with the head as it is,
    otherwise with zeros.  taught: a teacher's logits of the training images, float32 [images, classes].
    """
    for split, values in features.items():
        _refuse_infinite(split, values)
    mean, scale = _moments(features["train"])
    # A feature that hardly varies would get a huge weight, which would amplify the noise of INT8.
    scale = np.maximum(scale, _SMALLEST_SCALE * np.median(scale) + 1e-6)
    inner = nn.Linear(head.in_features, head.out_features)
    keep = options.keep_head
    with torch.no_grad():
        inner.weight.copy_(head.weight * torch.from_numpy(scale) if keep else torch.zeros_like(head.weight))
        inner.bias.copy_(head.bias + head.weight @ torch.from_numpy(mean) if keep else torch.zeros_like(head.bias))
    size = options.batch_size if isinstance(options.batch_size, int) else TrainOptions.batch_size
    assert isinstance(size, int)
    classes, train = head.out_features, targets["train"]

    def loaders(epoch: Callable[[], int]) -> dict[str, Batches]:
        parts = {split: Features(features[split], targets[split], mean, scale) for split in features}
        weights = image_weights(train, classes) if options.balance == "sampler" else None
        samplers = {
            "train": EpochSampler(len(train), options.seed, epoch, weights),
            "val": EpochSampler(len(targets["val"]), None, epoch),
        }
        return {split: feature_loader(parts[split], samplers[split], size) for split in samplers}

    plan = Plan(
        options,
        classes,
        options.passes_of_head,
        -(-len(train) // size),
        options.learning_rate,
        weights=class_weights(train, classes) if options.balance == "weights" else None,
        deadline=None if unfinished is None else unfinished.deadline(options.minutes),
        taught=taught,
        val_images=count_labeled(targets["val"]),
    )
    # One process trains it, even where torchrun started several.
    settings: Devices = {"devices": 1, "plugins": [LightningEnvironment()]}
    fit = run_fit("training the head", inner, plan, loaders, torch.device("cpu"), unfinished, **settings)
    with torch.no_grad():
        weight = inner.weight / torch.from_numpy(scale)
        head.weight.copy_(weight)
        head.bias.copy_(inner.bias - weight @ torch.from_numpy(mean))
    return fit


def _refuse_infinite(split: str, features: np.ndarray) -> None:
    """Raise ModelError for features that are not finite, from which no head could learn; they may lie on disk."""
    bad = sum(
        int((~np.isfinite(features[start : start + _ROWS_AT_ONCE])).any(1).sum())
        for start in range(0, len(features), _ROWS_AT_ONCE)
    )
    if bad:
        raise ModelError(
            f"the backbone's features of {bad} of {len(features)} {split} images are infinite or not a number: check --mean and "
            "--std, use other --weights, or choose another --backbone"
        )


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each feature's mean and standard deviation, float32; ``features`` may lie on disk."""
    parts = [slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(features), _ROWS_AT_ONCE)]
    mean = sum(features[part].sum(0, dtype=np.float64) for part in parts) / len(features)
    squares = sum(((features[part] - mean) ** 2).sum(0, dtype=np.float64) for part in parts)
    return np.float32(mean), np.sqrt(squares / len(features)).astype(np.float32)
