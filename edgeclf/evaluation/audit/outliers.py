"""Images that are far from all others: they may belong to no class."""

from __future__ import annotations

import numpy as np

NEIGHBORS = 20
FAR = 2.5
"""An outlier's distance, in robust standard deviations of the logarithm; see benchmarks/NOTES.md."""
_MOST_REFERENCES = 20_000
_BLOCK = 512


def distances(features: np.ndarray, groups: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return each image's mean distance to its nearest neighbors, in robust standard deviations from the median: float [images].

    features: float32 [images, features], not standardized, which would make rare ones large; groups: int [images], images of the same group are not neighbors; known: bool
    [images], which images may be neighbors, and decide the median.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    references = np.flatnonzero(known)
    references = references[:: -(-len(references) // _MOST_REFERENCES)]
    nearest = min(NEIGHBORS, len(references))
    found = np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        rows = slice(start, start + _BLOCK)
        cosines = unit[rows] @ unit[references].T
        cosines[groups[rows, None] == groups[None, references]] = -1
        top = -np.partition(-cosines, nearest - 1, axis=1)[:, :nearest]
        found[rows] = 1 - top.mean(1)
    logarithms = np.log(np.maximum(found, 1e-6))
    median = np.median(logarithms[known])
    spread = 1.4826 * np.median(np.abs(logarithms[known] - median))
    return (logarithms - median) / max(float(spread), 1e-3)
