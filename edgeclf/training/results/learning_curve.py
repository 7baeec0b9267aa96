"""A learning curve: how accuracy grows with the number of training images, and what twice as many would bring.

A head is fitted on the cached features of an eighth, a quarter, half and all of the training images, and measured on the
validation images; never on those of test.  The error is taken to fall as a power of the number of images (Hestness et al.,
"Deep Learning Scaling is Predictable, Empirically", 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...display.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = (8, 4, 2, 1)
SEEDS = 5
FEWEST = 10
"""Training images of each label, on average, of the smallest part."""
_MOST_WORK = 2e9
"""Images, features and labels, multiplied, of which all fits take some seconds."""
_RESAMPLES = 400
_STRENGTH = 0.01
"""Inverse of the L2 penalty, for standardized features."""
_SMALLEST_SCALE = 2.0


@dataclass(frozen=True)
class Step:
    """Heads that were fitted on one part of the training images."""

    images: int
    accuracy: float
    """Mean over the seeds."""
    lowest: float
    highest: float


@dataclass(frozen=True)
class LearningCurve(Report):
    """Accuracy by number of training images, and the accuracy expected from twice as many."""

    steps: tuple[Step, ...]
    fitted: tuple[tuple[int, float], ...]
    """Images and accuracy of the power law, up to twice the images."""
    doubled: int
    """Twice the images."""
    gain: float
    """Accuracy that they are expected to add."""
    interval: tuple[float, float]
    """95 % interval of the gain, by bootstrap over validation images and seeds."""
    val_images: int

    def __str__(self) -> str:
        return self.sentence()

    def plot(self) -> Figure:
        """Return accuracy by number of training images, and the fitted curve; DependencyError if matplotlib is missing."""
        from ..plots import draw_learning_curve

        return draw_learning_curve(self)

    def sentence(self) -> str:
        """Return what the curve says of twice the images."""
        low, high = self.interval
        sure = "" if low > 0 else "; perhaps no effect"
        return (
            f"Twice the training images ({self.doubled}): about {100 * self.gain:+.1f} points of accuracy "
            f"(95% interval {100 * low:+.1f} to {100 * high:+.1f}{sure})."
        )


def learning_curve(features: dict[str, np.ndarray], targets: dict[str, np.ndarray]) -> LearningCurve | None:
    """Measure the curve on features, float32 [images, features], of train and val; None if there are too few images or too many.

    targets: int [images], of both.
    """
    train, truth = features["train"], targets["train"]
    labels = len(np.unique(truth))
    small = len(train) // PARTS[0] < FEWEST * labels
    if labels < 2 or small or not len(features["val"]) or len(train) * train.shape[1] * labels > _MOST_WORK:
        return None
    mean, scale = train.mean(0), train.std(0)
    scale = np.maximum(scale, _SMALLEST_SCALE * np.median(scale) + 1e-6)
    train, val = (train - mean) / scale, (features["val"] - mean) / scale
    sizes, right = [], []
    for part in PARTS:
        chosen = [_part(truth, part, seed) for seed in range(SEEDS if part > 1 else 1)]
        rows = [_right(train[rows], truth[rows], val, targets["val"]) for rows in chosen]
        # All images are one set, so that every seed has the same head.
        right.append(np.stack(rows * (SEEDS // len(rows))))
        sizes.append(len(chosen[0]))
    return _curve(np.array(sizes), np.stack(right).astype(np.float32))


def _part(truth: np.ndarray, part: int, seed: int) -> np.ndarray:
    """Return the indices of one image of each label in every ``part``, at least one of each label."""
    order = np.random.default_rng(seed).permutation(len(truth))
    chosen = []
    for label in np.unique(truth):
        own = order[truth[order] == label]
        chosen.append(own[: max(1, round(len(own) / part))])
    return np.concatenate(chosen)


def _right(train: np.ndarray, truth: np.ndarray, val: np.ndarray, val_truth: np.ndarray) -> np.ndarray:
    """Fit a head and return whether it is right about each validation image, bool [images]."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # Several threads wait for each other longer than they compute on matrices as small as these.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        head = LogisticRegression(C=_STRENGTH, max_iter=60).fit(train, truth)
    return np.asarray(head.predict(val) == val_truth)


def _curve(sizes: np.ndarray, right: np.ndarray) -> LearningCurve:
    """Fit the power law; right: float32, 0 or 1 [parts, seeds, validation images]."""
    accuracy = right.mean(2)
    constant, exponent = _power_law(sizes, right.mean((1, 2)), right.shape[2])
    full = int(sizes[-1])
    grid = np.unique(np.geomspace(sizes[0], 2 * full, 24).round().astype(int))
    gains = [_gain(sizes, sample, right.shape[2]) for sample in _resampled(right)]
    low, high = np.quantile(gains, [0.025, 0.975])
    return LearningCurve(
        steps=tuple(
            Step(int(size), float(row.mean()), float(row.min()), float(row.max()))
            for size, row in zip(sizes, accuracy, strict=True)
        ),
        fitted=tuple((int(size), float(1 - np.exp(constant + exponent * np.log(size)))) for size in grid),
        doubled=2 * full,
        gain=_gain(sizes, right.mean((1, 2)), right.shape[2]),
        interval=(float(low), float(high)),
        val_images=right.shape[2],
    )


def _resampled(right: np.ndarray) -> list[np.ndarray]:
    """Return the mean accuracy of each part, of samples of the seeds and of the validation images; the parts share the images."""
    random = np.random.default_rng(0)
    parts, seeds, images = right.shape
    found = []
    for _ in range(_RESAMPLES):
        weights = random.multinomial(images, np.full(images, 1 / images)) / images
        by_seed = right @ weights
        found.append(np.array([by_seed[part, random.integers(seeds, size=seeds)].mean() for part in range(parts)]))
    return found


def _power_law(sizes: np.ndarray, accuracy: np.ndarray, images: int) -> tuple[float, float]:
    """Return constant and exponent of log error = constant + exponent * log size."""
    # Half an image wrong, so that no error is 0.
    errors = np.log((images * (1 - accuracy) + 0.5) / (images + 1))
    logs = np.log(sizes)
    spread = logs - logs.mean()
    exponent = float((spread * (errors - errors.mean())).sum() / (spread**2).sum())
    return float(errors.mean() - exponent * logs.mean()), exponent


def _gain(sizes: np.ndarray, accuracy: np.ndarray, images: int) -> float:
    constant, exponent = _power_law(sizes, accuracy, images)
    now, then = (float(np.exp(constant + exponent * np.log(size))) for size in (sizes[-1], 2 * sizes[-1]))
    return now - then
