"""Head, gradual and full fine-tuning: which part of a network is trained, and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeclf_runtime.images.preprocess import Preprocessing

from ...data.datasets import Dataset
from ...display.progress import say
from ...options import TrainOptions
from ..augmentation import augmentation
from ..backbones import ImageClassifier
from ..features import cache_features, device_of
from ..soft_targets import read_soft_targets
from ..unfinished import Unfinished
from .fit import Fit, Row
from .head import fit_head
from .network import Pictures, fit_network


def fit(
    network: ImageClassifier, dataset: Dataset, spec: Preprocessing, options: TrainOptions, unfinished: Unfinished
) -> tuple[list[Row], Row]:
    """Train in place; returns the rows of all epochs and that of the best one, whose weights the network has.

    unfinished: where to go on, and to leave checkpoints.
    """
    parts = {split: dataset.split(split) for split in ("train", "val")}
    targets = {split: np.array([dataset.index(sample) for sample in part]) for split, part in parts.items()}
    if options.soft_targets is not None:
        targets["train"] = read_soft_targets(Path(options.soft_targets), dataset, parts["train"])
    pictures = Pictures({split: [one.path for one in part] for split, part in parts.items()}, targets, spec)
    rows: list[Row] = []
    # Random features shrink from layer to layer until batch norm has learned; a head trained on them would have huge
    # weights, from which training all layers does not recover.
    if options.finetune == "head" or options.weights != "none":
        head = _fit_head(network, pictures, options, unfinished)
        rows, best = head.rows, head.best_row
    if options.finetune != "head":
        before = [{**best, "epoch": 0}] if rows else []
        whole = fit_network(network, pictures, options, before, unfinished.file("network.ckpt"))
        rows, best = whole.rows, whole.best_row
        if before and best is rows[0]:
            say(
                f"no epoch has a higher val accuracy than the head alone, {best['val_accuracy']:.4f}: the network with the "
                "trained head is kept; try a smaller --learning-rate"
            )
    return rows, best


def _fit_head(network: ImageClassifier, pictures: Pictures, options: TrainOptions, unfinished: Unfinished) -> Fit:
    if options.finetune != "head":
        # It only prepares the other layers' training.
        options = replace(options, mixup=0.0, cutmix=0.0, ema=None, patience=None, views=0)
    changes = (augmentation(options.flips), options.views, options.seed) if options.views else None
    features = {
        split: cache_features(
            network,
            paths,
            pictures.spec,
            unfinished.file(f"features-{split}.npy"),
            f"features of {split}",
            device_of(options),
            changes if split == "train" else None,
        )
        for split, paths in pictures.paths.items()
    }
    return fit_head(network.head, features, pictures.targets, options, unfinished.file("head.ckpt"))
