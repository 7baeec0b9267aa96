"""Rules that choose a calibration set's images, as indices; the same seed gives the same choice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from ..data.sampling import in_random_order


def choose_random(digests: Sequence[str], labels: Sequence[str], size: int, seed: int, _: np.ndarray) -> list[int]:
    """Choose at random."""
    return in_random_order(digests, seed)[:size]


def choose_stratified(digests: Sequence[str], labels: Sequence[str], size: int, seed: int, _: np.ndarray) -> list[int]:
    """Choose images of each label in proportion to its share, at random within a label."""
    strata: dict[str, list[int]] = defaultdict(list)
    for index in in_random_order(digests, seed):
        strata[labels[index]].append(index)
    # Largest remainder method: whole numbers that add up to the size.
    shares = {label: size * len(indices) / len(digests) for label, indices in strata.items()}
    counts = {label: int(share) for label, share in shares.items()}
    for label in sorted(shares, key=lambda label: (counts[label] - shares[label], label))[
        : size - sum(counts.values())
    ]:
        counts[label] += 1
    return [index for label, indices in strata.items() for index in indices[: counts[label]]]


def choose_diverse(
    digests: Sequence[str], labels: Sequence[str], size: int, seed: int, vectors: np.ndarray
) -> list[int]:
    """Choose images that are far from each other: greedy k-center (Gonzalez 1985; Sener and Savarese 2018).

    vectors: features, float [images, features]; the seed selects the first image.
    """
    chosen = in_random_order(digests, seed)[:1]
    distance = np.full(len(digests), np.inf)
    while len(chosen) < size:
        distance = np.minimum(distance, np.square(vectors - vectors[chosen[-1]]).sum(1))
        # Images with equal features have distance 0, so a chosen image needs less.
        distance[chosen[-1]] = -1.0
        chosen.append(int(distance.argmax()))
    return chosen


def choose_uncertain(
    digests: Sequence[str], labels: Sequence[str], size: int, seed: int, vectors: np.ndarray
) -> list[int]:
    """Choose the images with the smallest margin between their two best labels (margin sampling).

    vectors: logits, float [images, labels].
    """
    best = np.sort(vectors, axis=1)
    order = np.array(in_random_order(digests, seed))
    return [int(index) for index in order[np.argsort((best[:, -1] - best[:, -2])[order], kind="stable")[:size]]]


Rule = Callable[[Sequence[str], Sequence[str], int, int, np.ndarray], list[int]]
RULES: dict[str, Rule] = {
    "stratified": choose_stratified,
    "random": choose_random,
    "diverse": choose_diverse,
    "uncertain": choose_uncertain,
}
