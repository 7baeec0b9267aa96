"""Chooses among images, the same ones each time: evenly spaced, or in an order that content and seed decide."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def evenly_spaced(length: int, count: int) -> np.ndarray:
    """Return the places of ``count`` things out of ``length``, first and last among them; of all where there are no more."""
    return np.linspace(0, length - 1, min(count, length)).astype(int)


def in_random_order(digests: Sequence[str], seed: int) -> list[int]:
    """Return the places of images in an order that their content and the seed decide alone."""
    keys = [hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest() for digest in digests]
    return sorted(range(len(digests)), key=keys.__getitem__)
