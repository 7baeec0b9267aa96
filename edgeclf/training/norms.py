"""Gives the batch norms of a pretrained network the statistics of the training images, before its layers are fine-tuned.

A pretrained network normalizes by the statistics of its own training images.  While its layers are trained, a batch norm takes
those of the batch instead, so on another kind of images every feature would change at the first step, and a head that was
trained on the features before would be wrong.  Method: Li et al. 2016, "Revisiting Batch Normalization For Practical Domain
Adaptation", arXiv 1603.04779; figures in benchmarks/NOTES.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from edgeclf_runtime.images.preprocess import Preprocessing

from ..data.pixels import load_batches

if TYPE_CHECKING:
    from .architecture import ImageClassifier

MOST_IMAGES = 512
"""More change the statistics less than a batch's own differ from them."""
_BATCH = 32
_SEED = 0


def adapt_norms(network: ImageClassifier, paths: Sequence[Path], spec: Preprocessing, device: torch.device) -> None:
    """Set the running means and variances of every batch norm to those over the images, in place; nothing else changes.

    paths: of the training images, of which MOST_IMAGES at most are taken, in a random order: a batch of a single label would
    not have the variance of all.  The network is left in evaluation mode, on the CPU.
    """
    norms = [one for one in network.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    norms = [one for one in norms if one.track_running_stats]
    chosen = [paths[i] for i in np.random.default_rng(_SEED).permutation(len(paths))[:MOST_IMAGES]]
    if not norms or len(chosen) < 2:
        return
    momentums = [one.momentum for one in norms]
    network.eval().to(device)
    for one in norms:
        one.reset_running_stats()
        one.momentum = None  # the average over all batches
        one.train()
    with torch.no_grad():
        for batch in load_batches(chosen, spec, _BATCH, "adapting the norms"):
            if len(batch) > 1:  # a single image has no variance after global pooling
                network(torch.from_numpy(batch).to(device))
    for one, momentum in zip(norms, momentums, strict=True):
        one.momentum = momentum
    network.eval().cpu()
