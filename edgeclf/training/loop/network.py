"""Trains the layers of a whole network on images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from edgeclf_runtime.images.preprocess import Preprocessing

from ...options import RATE_DECAY, TrainOptions
from ..augmentation import augmentation
from ..backbones import ImageClassifier
from ..features import device_of
from ..stages import stage_parameters, thaw
from .fit import Fit, Plan, Row
from .loaders import EpochSampler, Images, image_loader, image_weights, usable_workers
from .objective import class_weights
from .trainer import run_fit


@dataclass(frozen=True)
class Pictures:
    """The images of train and val, by split."""

    paths: Mapping[str, Sequence[Path]]
    targets: Mapping[str, np.ndarray]
    """int [images], or probabilities float [images, classes]."""
    spec: Preprocessing


def fit_network(
    network: ImageClassifier,
    pictures: Pictures,
    options: TrainOptions,
    before: Sequence[Row] = (),
    checkpoint: Path | None = None,
) -> Fit:
    """Train every layer in place, or those that are unfrozen so far, and leave the weights of the best epoch.

    before: rows of the network as it is; if no epoch is better, it stays so.
    """
    network.requires_grad_(True)
    network.normalize.requires_grad_(False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    on_gpu = device_of(options).type == "cuda"
    classes, train = network.head.out_features, pictures.targets["train"]
    size = options.batch_size
    assert isinstance(size, int)
    steps = len(train) // size if len(train) > size else 1
    plan = Plan(
        options,
        classes,
        options.passes,
        steps,
        options.learning_rate,
        RATE_DECAY[options.finetune] if options.rate_decay is None else options.rate_decay,
        class_weights(train, classes) if options.balance == "weights" else None,
        tuple(before),
        stage_parameters,
        partial(_thaw, epochs=options.passes) if options.finetune == "gradual" else None,
    )
    precision = "32-true"
    if on_gpu and not options.full_precision:
        precision = "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return run_fit(
        "training all layers",
        network,
        plan,
        partial(_loaders, pictures=pictures, options=options, classes=classes, on_gpu=on_gpu),
        checkpoint,
        accelerator="cuda" if on_gpu else "cpu",
        devices=1,
        precision=precision,
    )


def _thaw(network: nn.Module, epoch: int, epochs: int) -> None:
    assert isinstance(network, ImageClassifier)
    thaw(network, epoch, epochs)


def _loaders(fit: Fit, pictures: Pictures, options: TrainOptions, classes: int, on_gpu: bool) -> dict[str, DataLoader]:
    train, spec, size = pictures.targets["train"], pictures.spec, options.batch_size
    assert isinstance(size, int)
    workers = usable_workers(options.workers, size * spec.height * spec.width * 3, on_gpu)
    weights = image_weights(train, classes) if options.balance == "sampler" else None
    samplers = {
        "train": EpochSampler(len(train), options.seed, lambda: fit.epoch, weights),
        "val": EpochSampler(len(pictures.targets["val"]), None, lambda: fit.epoch),
    }
    changes = {"train": augmentation(options.flips), "val": None}
    return {
        split: image_loader(
            Images(pictures.paths[split], pictures.targets[split], spec, changes[split]),
            sampler,
            size,
            workers,
            on_gpu,
            split == "train",
        )
        for split, sampler in samplers.items()
    }
