"""Predicts each image's label from the other images' features, by folds, with a softmax regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.read import sha256_bytes

from ...display.progress import progress
from ...training.machine.threads import torch_threads

if TYPE_CHECKING:
    import torch

FEWEST = 4
"""Images of a label outside an image's own fold, without which its label is not checked."""
_COMPONENTS = 256
_PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Weights of the squared weights in the loss, from the strongest; the first after which the loss grows ends the search."""
_STEPS = 60


def folds_of(
    groups: Sequence[int], labels: Sequence[int], known: Sequence[bool], digests: Sequence[str], folds: int, seed: int
) -> np.ndarray:
    """Return each image's fold, int [images]: a group's images share one, and each label is spread over all.

    known: whose labels may decide something.  digests: hash of each file, which decides the order.
    """
    first: dict[int, tuple[bool, int, str]] = {}
    for group, label, is_known, digest in zip(groups, labels, known, digests, strict=True):
        # A group without a known label comes last, so that it changes nothing for the others.
        key = (not is_known, label if is_known else 0, sha256_bytes(f"{seed} {digest}".encode()))
        first[group] = min(key, first.get(group, key))
    fold_of = {group: number % folds for number, group in enumerate(sorted(first, key=lambda group: first[group]))}
    return np.array([fold_of[group] for group in groups])


def reduced(features: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return features standardized and projected on their principal components, float32 [images, components].

    used: indices of the images that decide both.
    """
    import torch

    # Small products: several threads would wait for each other.
    with torch_threads(1):
        every, some = torch.from_numpy(features), torch.from_numpy(features[used])
        mean, scale = some.mean(0), some.std(0, unbiased=False)
        # A feature that hardly varies says nothing, and would be noise of the same size as the others.
        scale = scale.clamp_min(0.1 * float(scale.median()) + 1e-6)
        some = (some - mean) / scale
        variances, vectors = torch.linalg.eigh((some.T @ some).double() / len(used))
        kept = slice(max(0, len(variances) - min(_COMPONENTS, max(1, len(used) - 1))), None)
        unit = float(variances[kept].mean().clamp_min(1e-12).sqrt())
        return (((every - mean) / scale) @ vectors[:, kept].float() / unit).numpy()


def out_of_sample(
    values: np.ndarray, labels: np.ndarray, folds: np.ndarray, known: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return each label's probability for each image, predicted without its fold, and whether its label can be checked.

    values: float32 [images, components]; labels, folds: int [images]; known: bool [images], whose labels may be learned (not
    the test split's).  Returns float32 [images, classes] and bool [images].  The penalty is the one with the least loss on
    the known images.
    """
    import torch

    numbers = sorted(set(folds.tolist()))
    counts = np.zeros((max(numbers) + 1, classes), int)
    for fold in numbers:
        counts[fold] = np.bincount(labels[known & (folds != fold)], minlength=classes)
    judged = counts[folds, labels] >= FEWEST
    inputs = torch.from_numpy(np.hstack([values, np.ones((len(values), 1), np.float32)]))
    targets = torch.from_numpy(labels.astype(np.int64))
    weights = {fold: torch.zeros(classes, inputs.shape[1]) for fold in numbers}
    best, least = np.full((len(values), classes), 1 / classes, np.float32), np.inf
    scored = known & judged
    with torch_threads(1), progress("fitting the label model", len(_PENALTIES) * len(numbers)) as advance:
        for penalty in _PENALTIES:
            found = np.empty_like(best)
            for fold in numbers:
                part = torch.from_numpy(np.flatnonzero(known & (folds != fold)))
                if len(part):
                    weights[fold] = _fitted(weights[fold], inputs[part], targets[part], penalty)
                mine = np.flatnonzero(folds == fold)
                found[mine] = torch.softmax(inputs[torch.from_numpy(mine)] @ weights[fold].T, 1).numpy()
                advance()
            loss = -np.log(np.maximum(found[scored, labels[scored]], 1e-9)).mean() if scored.any() else np.inf
            if loss >= least:
                break
            best, least = found, loss
    return best, judged


def _fitted(weights: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, penalty: float) -> torch.Tensor:
    """Return the weights of a softmax regression, [classes, components + 1], that starts with the given ones."""
    import torch
    from torch import nn

    found = weights.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([found], max_iter=_STEPS, tolerance_grad=1e-4, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(inputs @ found.T, targets) + penalty / 2 * (found[:, :-1] ** 2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return found.detach()
