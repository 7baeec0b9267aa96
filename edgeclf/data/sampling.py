"""Repeatable choices among images: evenly spaced, or in a random order given by content and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def evenly_spaced(length: int, count: int) -> np.ndarray:
    """Return the indices of ``count`` out of ``length`` items, with the first and last; of all items if there are no more."""
    return np.linspace(0, length - 1, min(count, length)).astype(int)


def in_random_order(digests: Sequence[str], seed: int) -> list[int]:
    """Return the indices of images in a random order that depends only on their content and the seed."""
    keys = [hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest() for digest in digests]
    return sorted(range(len(digests)), key=keys.__getitem__)
