"""Head, gradual and full fine-tuning: which part of a network is trained, and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from edgeclf_runtime.images.preprocess import Preprocessing

from ...data.datasets import Dataset
from ...data.pixels import load_pixels
from ...display.progress import say
from ...options import TrainOptions
from ..architecture import ImageClassifier
from ..augmentation import augmentation
from ..curriculum import rank
from ..distillation.teacher import Teacher
from ..features import cache_features, device_of
from ..machine.distributed import share, shared
from ..norms import adapt_norms
from ..soft_targets_file import read_soft_targets
from ..unfinished import Unfinished
from .fit import Fit, Row
from .head import fit_head
from .logs import log_wrong_images
from .loss import NO_TARGET
from .network import Pictures, fit_network
from .trials import fitting_batch


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    rows: list[Row]
    """Of all epochs."""
    best: Row
    """That of the best epoch, whose weights the network has."""
    features: dict[str, np.ndarray] | None = None
    """The head's inputs of train and val, float32 [images, features], on disk, if the backbone stayed as it was."""


def fit(
    network: ImageClassifier,
    dataset: Dataset,
    spec: Preprocessing,
    options: TrainOptions,
    unfinished: Unfinished,
    teacher: Teacher | None = None,
) -> Trained:
    """Train in place.

    unfinished: the folder to resume from and to write checkpoints to.
    """
    pictures = _pictures(dataset, spec, options, unfinished, teacher)
    if options.finetune == "head":
        return _fit_head(network, pictures, options, unfinished)
    if options.batch_size == "auto":
        options = replace(options, batch_size=_batch_size(network, pictures, options, unfinished))
    before: list[Row] = []
    # Random features shrink from layer to layer until batch norm has learned; a head trained on them would have huge
    # weights, from which training all layers does not recover.
    if options.weights != "none":
        _adapt_norms(network, pictures, options, unfinished)
        prepared = _fit_head(network, pictures, _preparing(options), unfinished)
        # The head that is trained first has seen no attacked images, and does not compete.
        before = [] if options.adversarial else [{**prepared.best, "epoch": 0}]
        if options.curriculum is not None:
            pictures = replace(pictures, ranks=shared(lambda: _ranks(network, pictures, prepared)))
    found = fit_network(network, pictures, options, before, unfinished)
    _show_wrong(found, pictures)
    if before and found.best_row is found.rows[0]:
        say(
            f"no epoch has a higher val accuracy than the trained head, {before[0]['val_accuracy']:.4f}: the network with "
            "that head is kept; try a smaller --learning-rate"
        )
    return Trained(found.rows, found.best_row)


def _adapt_norms(network: ImageClassifier, pictures: Pictures, options: TrainOptions, unfinished: Unfinished) -> None:
    """Adapt the network's norms in the first process, and give them to the others; a checkpoint has them already."""
    if unfinished.file("network.ckpt").is_file():
        return

    def lead() -> dict[str, torch.Tensor]:
        adapt_norms(network, pictures.paths["train"], pictures.spec, device_of(options))
        return dict(network.named_buffers())

    found = shared(lead)
    for name, buffer in network.named_buffers():
        buffer.copy_(found[name])


def _pictures(
    dataset: Dataset, spec: Preprocessing, options: TrainOptions, unfinished: Unfinished, teacher: Teacher | None
) -> Pictures:
    parts = {split: dataset.split(split) for split in ("train", "val")}
    targets = {split: np.array([dataset.index(sample) for sample in part]) for split, part in parts.items()}
    if options.soft_targets is not None:
        targets["train"] = read_soft_targets(Path(options.soft_targets), dataset, parts["train"])
    paths = {split: [one.path for one in part] for split, part in parts.items()}
    if teacher is None:
        return Pictures(paths, targets, spec)
    if teacher.unlabeled is not None:
        added = teacher.unlabeled.paths
        paths["train"] = [*paths["train"], *added]
        # Of an image without a label, there is none among soft targets either.
        shape = (len(added), *targets["train"].shape[1:])
        empty = np.full(shape, NO_TARGET if len(shape) == 1 else 0, targets["train"].dtype)
        targets["train"] = np.concatenate([targets["train"], empty])
    file, deadline = unfinished.file("teacher.npy"), unfinished.deadline(options.minutes)
    taught = shared(lambda: teacher.logits(paths["train"], file, device_of(options), deadline))
    return Pictures(paths, targets, spec, taught)


def _ranks(network: ImageClassifier, pictures: Pictures, prepared: Trained) -> np.ndarray:
    assert prepared.features is not None
    return rank(network.head, prepared.features["train"], pictures.targets["train"], pictures.taught)


def _preparing(options: TrainOptions) -> TrainOptions:
    """Return the options of a head that only prepares the training of other layers."""
    return replace(
        options,
        mixup=0.0,
        cutmix=0.0,
        adversarial=0.0,
        ema=None,
        patience=None,
        views=0,
        find_rate=False,
        minutes=None,
        log=(),
    )


def _batch_size(network: ImageClassifier, pictures: Pictures, options: TrainOptions, unfinished: Unfinished) -> int:
    spec, device, images = pictures.spec, device_of(options), len(pictures.paths["train"])

    def decide() -> int:
        return unfinished.decide("batch_size", lambda: fitting_batch(network, spec.height, spec.width, images, device))

    return shared(decide) * share()[1]


def _fit_head(network: ImageClassifier, pictures: Pictures, options: TrainOptions, unfinished: Unfinished) -> Trained:
    """Train the head in the first process, and give it to the others."""
    features: dict[str, np.ndarray] = {}

    def lead() -> tuple[list[Row], Row, dict[str, torch.Tensor]]:
        changes = (augmentation(options, pictures.spec.height), options.views, options.seed) if options.views else None
        for split, paths in pictures.paths.items():
            features[split] = cache_features(
                network,
                paths,
                pictures.spec,
                unfinished.file(f"features-{split}.npy"),
                f"features of {split}",
                device_of(options),
                changes if split == "train" else None,
                unfinished.deadline(options.minutes),
            )
        found = fit_head(network.head, features, pictures.targets, options, unfinished, pictures.taught)
        _show_wrong(found, pictures)
        return found.rows, found.best_row, network.head.state_dict()

    rows, best, weights = shared(lead)
    network.head.load_state_dict(weights)
    # The features of the images themselves come before those of their views.
    plain = {split: values[: len(pictures.paths[split])] for split, values in features.items()}
    return Trained(rows, best, plain)


def _show_wrong(found: Fit, pictures: Pictures) -> None:
    log_wrong_images(
        found.loggers_used, found.wrong, pictures.paths["val"], lambda path: load_pixels(path, pictures.spec)
    )
