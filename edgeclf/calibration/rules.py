"""Rules that choose a calibration set's images, the same ones for the same seed.

Pure: takes hashes, labels and vectors, gives places.  Knows nothing of files or models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from ..data.sampling import in_random_order


def choose_random(digests: Sequence[str], labels: Sequence[str], size: int, seed: int, _: np.ndarray) -> list[int]:
    """Choose without looking."""
    return in_random_order(digests, seed)[:size]


def choose_stratified(digests: Sequence[str], labels: Sequence[str], size: int, seed: int, _: np.ndarray) -> list[int]:
    """Choose as many images of each label as its share, and without looking among them."""
    strata: dict[str, list[int]] = defaultdict(list)
    for place in in_random_order(digests, seed):
        strata[labels[place]].append(place)
    # Largest remainders: whole numbers that sum to the size.
    shares = {label: size * len(places) / len(digests) for label, places in strata.items()}
    counts = {label: int(share) for label, share in shares.items()}
    for label in sorted(shares, key=lambda label: (counts[label] - shares[label], label))[
        : size - sum(counts.values())
    ]:
        counts[label] += 1
    return [place for label, places in strata.items() for place in places[: counts[label]]]


def choose_diverse(
    digests: Sequence[str], labels: Sequence[str], size: int, seed: int, vectors: np.ndarray
) -> list[int]:
    """Choose images that are far from each other: greedy k-centre (Gonzalez 1985; Sener and Savarese 2018).

    vectors: features, float [images, features]; the seed decides the first image.
    """
    chosen = in_random_order(digests, seed)[:1]
    distance = np.full(len(digests), np.inf)
    while len(chosen) < size:
        distance = np.minimum(distance, np.square(vectors - vectors[chosen[-1]]).sum(1))
        # Images alike in every feature are at distance 0, and none is chosen twice.
        distance[chosen[-1]] = -1.0
        chosen.append(int(distance.argmax()))
    return chosen


def choose_uncertain(
    digests: Sequence[str], labels: Sequence[str], size: int, seed: int, vectors: np.ndarray
) -> list[int]:
    """Choose the images whose two best labels a model can tell apart least (margin sampling).

    vectors: logits, float [images, labels].
    """
    best = np.sort(vectors, axis=1)
    order = np.array(in_random_order(digests, seed))
    return [int(place) for place in order[np.argsort((best[:, -1] - best[:, -2])[order], kind="stable")[:size]]]


Rule = Callable[[Sequence[str], Sequence[str], int, int, np.ndarray], list[int]]
RULES: dict[str, Rule] = {
    "stratified": choose_stratified,
    "random": choose_random,
    "diverse": choose_diverse,
    "uncertain": choose_uncertain,
}
