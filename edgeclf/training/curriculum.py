"""A curriculum: training begins with the images that are easy, and the others join epoch by epoch.

Bengio et al. 2009, "Curriculum Learning"; the images are ranked within their labels, so that every epoch has the shares of the
labels, and by a network that was trained before, as in Hacohen & Weinshall 2019, "On the Power of Curriculum Learning".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .loop.loss import NO_TARGET, labels_of

if TYPE_CHECKING:
    from torch import nn

_COMPLETE_BY = 0.5
"""Share of the epochs after which all images are used."""
_ROWS_AT_ONCE = 4096


def rank(head: nn.Linear, features: np.ndarray, targets: np.ndarray, taught: np.ndarray | None = None) -> np.ndarray:
    """Return the rank of each image among those of its label, by a head's loss: float [images], 0 (easiest) to below 1.

    features: float32 [images, features], which may lie on disk.  targets: int [images], or probabilities float [images,
    classes].  taught: a teacher's logits, whose likeliest label is that of an image without one.
    """
    import torch

    labels = labels_of(targets)
    if taught is not None:
        labels = np.where(labels == NO_TARGET, taught.argmax(1), labels)
    losses = []
    with torch.no_grad():
        for start in range(0, len(labels), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            logits = head(torch.from_numpy(np.array(features[part])))
            truth = torch.from_numpy(labels[part].astype(np.int64))
            losses.append(torch.nn.functional.cross_entropy(logits, truth, reduction="none").numpy())
    found, loss = np.zeros(len(labels)), np.concatenate(losses)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        found[own[np.argsort(loss[own], kind="stable")]] = np.arange(len(own)) / len(own)
    return found


def share_of_epoch(epoch: int, epochs: int, first: float) -> float:
    """Return the share of the images that an epoch uses: ``first`` at the beginning, all from half of the epochs on."""
    return min(1.0, first + (1 - first) * epoch / max(1.0, epochs * _COMPLETE_BY))
