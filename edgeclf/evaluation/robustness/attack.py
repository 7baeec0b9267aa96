"""Adversarial images: the smallest changes that mislead a network most, found with its gradient.

FGSM is one step in the direction of the gradient's sign (Goodfellow et al. 2015, "Explaining and Harnessing Adversarial
Examples"); PGD is several smaller ones from a random start (Madry et al. 2018, "Towards Deep Learning Models Resistant to
Adversarial Attacks").  No pixel changes by more than eps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.read import sha256_bytes

if TYPE_CHECKING:
    from ...training.architecture import ImageClassifier

_STEP = 2.5
"""PGD's step times the number of steps, in eps, as Madry et al. chose."""


def fgsm(network: ImageClassifier, batch: np.ndarray, truth: np.ndarray, eps: float) -> np.ndarray:
    """Return images changed by one step of eps levels; arguments as for pgd()."""
    return _attack(network, batch, truth, eps, batch, eps, 1)


def pgd(network: ImageClassifier, batch: np.ndarray, truth: np.ndarray, eps: float, steps: int) -> np.ndarray:
    """Return images changed by projected gradient descent.

    network: in evaluation mode.  batch: float32 [N, height, width, 3], 0 to 255.  truth: int [N], the labels' indices.
    eps: largest change of a value, in levels of 0 to 255.  The random start depends on each image's pixels only.
    """
    start = np.stack([image + _random(image).uniform(-eps, eps, image.shape).astype(np.float32) for image in batch])
    return _attack(network, batch, truth, eps, start, _STEP * eps / steps, steps)


def _attack(
    network: ImageClassifier,
    batch: np.ndarray,
    truth: np.ndarray,
    eps: float,
    start: np.ndarray,
    step: float,
    steps: int,
) -> np.ndarray:
    import torch

    from ...training.loop.attack import attacked
    from ...training.machine.threads import torch_threads

    targets = torch.from_numpy(np.asarray(truth, np.int64))

    def loss_of(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(images), targets, reduction="sum")

    with torch_threads():
        return attacked(loss_of, torch.from_numpy(batch), eps, torch.from_numpy(start), step, steps).numpy()


def _random(image: np.ndarray) -> np.random.Generator:
    return np.random.default_rng(int(sha256_bytes(np.ascontiguousarray(image).tobytes())[:16], 16))
