"""Trains the layers of a whole network on images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from edgeclf_runtime.images.preprocess import Preprocessing

from ...errors import OptionError
from ...options import RATE_DECAY, TrainOptions
from ..architecture import ImageClassifier
from ..augmentation import augmentation
from ..curriculum import share_of_epoch
from ..features import device_of
from ..machine.distributed import share
from ..machine.precision import precision_of
from ..stages import stage_modules, stage_parameters, thaw
from ..unfinished import Unfinished
from .fit import Fit, Plan, Row
from .loaders import Batches, EpochSampler, Images, image_loader, image_weights, usable_workers
from .loss import class_weights, count_labeled
from .trainer import Devices, run_fit


@dataclass(frozen=True)
class Pictures:
    """The images of train and val, by split."""

    paths: Mapping[str, Sequence[Path]]
    targets: Mapping[str, np.ndarray]
    """int [images], or probabilities float [images, classes]."""
    spec: Preprocessing
    taught: np.ndarray | None = None
    """A teacher's logits of the training images, float32 [images, classes]."""
    ranks: np.ndarray | None = None
    """Of the training images, from the easiest of each label to the hardest, 0 to 1, float [images], for a curriculum."""


def fit_network(
    network: ImageClassifier,
    pictures: Pictures,
    options: TrainOptions,
    before: Sequence[Row] = (),
    unfinished: Unfinished | None = None,
) -> Fit:
    """Train every layer in place, or those that are unfrozen so far, and leave the weights of the best epoch.

    before: rows of the network as it is; if no epoch is better, it stays so.  Raises OptionError if the processes cannot share
    a batch equally.
    """
    network.requires_grad_(True)
    network.normalize.requires_grad_(False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device, classes, train = device_of(options), network.head.out_features, pictures.targets["train"]
    partly = options.finetune == "gradual" or options.freeze > 0
    size = _share_of_batch(options)
    images = -(-len(train) // share()[1])
    plan = Plan(
        options,
        classes,
        options.passes,
        images // size if images > size else 1,
        options.learning_rate,
        RATE_DECAY[options.finetune] if options.rate_decay is None else options.rate_decay,
        class_weights(train, classes) if options.balance == "weights" else None,
        tuple(before),
        stage_parameters,
        partial(_thaw, options=options) if partly else None,
        stage_modules,
        "network",
        None if unfinished is None else unfinished.deadline(options.minutes),
        pictures.taught,
        precision_of(options, device),
        count_labeled(pictures.targets["val"]),
    )
    loaders = partial(_loaders, pictures=pictures, options=options, classes=classes, on_gpu=device.type == "cuda")
    return run_fit("training all layers", network, plan, loaders, device, unfinished, **_strategy(device, partly))


def _share_of_batch(options: TrainOptions) -> int:
    """Return the images of a batch that this process takes."""
    size, processes = options.batch_size, share()[1]
    assert isinstance(size, int)
    if size % processes or size < 2 * processes:
        raise OptionError(
            f"batch-size is {size}, which {processes} processes cannot share; a multiple of {processes}, and 2 or more for "
            "each, was expected"
        )
    return size // processes


def _strategy(device: torch.device, partly: bool) -> Devices:
    """Return settings of lightning.Trainer for the processes that torchrun started, or for one."""
    processes = share()[1]
    if processes == 1:
        return {"devices": 1}
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    # Frozen stages have no gradients that the processes could wait for.
    strategy = DDPStrategy(find_unused_parameters=partly)
    return {
        "devices": here,
        "num_nodes": processes // here,
        "strategy": strategy,
        "sync_batchnorm": device.type == "cuda",
    }


def _thaw(network: nn.Module, epoch: int, options: TrainOptions) -> None:
    assert isinstance(network, ImageClassifier)
    thaw(network, epoch, options)


def _chosen(pictures: Pictures, options: TrainOptions) -> Callable[[int], np.ndarray] | None:
    """Return what a curriculum chooses for an epoch; None without one."""
    ranks, first = pictures.ranks, options.curriculum
    if ranks is None or first is None:
        return None
    return lambda epoch: np.flatnonzero(ranks < share_of_epoch(epoch, options.passes, first))


def _loaders(
    epoch: Callable[[], int], pictures: Pictures, options: TrainOptions, classes: int, on_gpu: bool
) -> dict[str, Batches]:
    train, spec, size, own = pictures.targets["train"], pictures.spec, _share_of_batch(options), share()
    workers = usable_workers(options.workers, size * spec.height * spec.width * 3, on_gpu, own[1])
    weights = image_weights(train, classes) if options.balance == "sampler" else None
    samplers = {
        "train": EpochSampler(len(train), options.seed, epoch, weights, own, _chosen(pictures, options)),
        "val": EpochSampler(len(pictures.targets["val"]), None, epoch, None, own),
    }
    changes = {"train": augmentation(options, spec.height), "val": None}
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
