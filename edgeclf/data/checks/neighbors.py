"""Nearest neighbors among thumbnails: the few pairs of a data set that are worth comparing pixel by pixel.

A thumbnail is described by the logarithms of its Fourier magnitudes at low frequencies, which a shift hardly changes, of
itself and of its enlarged middle, for pairs of which one is a crop of the other.  What all images have in common is removed: the
mean is subtracted, and the principal components are divided by their standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import cv2
import numpy as np

from ...display.progress import track
from ..temporary import temporary_file, write_whole
from .thumbnails import SIDE, Thumbnail

ZOOM = 0.96
"""Side of the enlarged middle: between a whole image and a crop of 95 %, neither is far off."""
_FREQUENCIES = 16
_COMPONENTS = 128
_VARIANCE = 0.5
"""Added to each component's variance, about what a shift and a crop change: smaller differences mean nothing."""
_SAMPLED = 4096
_NEAREST = 5
_SIMILAR = 0.5
"""Least cosine of two descriptors; not required of sets so small that their mean is uncertain."""
_FEW = 256
_BLOCK = 512
_COSINES = 2**22
"""So many are in memory at once."""
_MANY = 10_000
"""From here on the search takes seconds, and its progress is shown."""


class Thumbnails(Protocol):
    """A list of thumbnails, or a file of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Thumbnail: ...


def neighbors(thumbnails: Thumbnails, places: Sequence[int]) -> np.ndarray:
    """Return the pairs of thumbnails of which one is among the nearest of the other: int [P, 2], smaller first, in order.

    places: the thumbnails to look at, which the pairs number from 0.
    """
    count = len(places)
    if count < 2:
        return np.empty((0, 2), np.int64)
    whole, middle = _descriptors(thumbnails, places)
    block = min(_BLOCK, max(1, _COSINES // count))
    starts: Sequence[int] = range(0, count, block)
    pairs = []
    for start in track(starts, "finding similar images", len(starts)) if count > _MANY else starts:
        rows = slice(start, start + block)
        cosines = whole[rows] @ whole.T
        np.maximum(cosines, middle[rows] @ whole.T, out=cosines)
        np.maximum(cosines, whole[rows] @ middle.T, out=cosines)
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        row, other = _nearest(cosines, _SIMILAR if count > _FEW else -1.01)
        pairs.append(np.minimum(start + row, other) * count + np.maximum(start + row, other))
    return np.stack(divmod(np.unique(np.concatenate(pairs)), count), 1)


def _nearest(cosines: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of each row's largest cosines, at most _NEAREST and none below ``least``."""
    # Sorting the few that are large enough takes less time than partitioning whole rows.
    rows, columns = np.nonzero(cosines >= least)
    order = np.lexsort((-cosines[rows, columns], rows))
    starts = np.searchsorted(rows, np.arange(len(cosines)))
    # np.nonzero returns the rows in order, and sorting keeps each row's place.
    ranks = np.arange(len(rows)) - starts[rows]
    chosen = order[ranks < _NEAREST]
    return rows[chosen], columns[chosen]


def zoomed(image: np.ndarray, side: float = ZOOM) -> np.ndarray:
    """Return the middle of a square image, enlarged to its size; side: of the middle, relative to the image's."""
    border = (len(image) - 1) / 2 * (1 - side)
    matrix = np.array([[side, 0, border], [0, side, border]], np.float32)
    return cv2.warpAffine(image, matrix, image.shape[:2], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _descriptors(thumbnails: Thumbnails, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors, float32 [N, components], of the thumbnails and of their enlarged middles; those of many lie in temporary files."""
    step = -(-len(places) // _SAMPLED)
    sample = _magnitudes([thumbnails[place].gray for place in places[::step]])
    mean = sample.mean(0)
    centered = (sample - mean).astype(np.float64)
    variances, vectors = np.linalg.eigh(centered.T @ centered / len(sample))
    scales = np.sqrt(np.maximum(variances[-_COMPONENTS:], 0) + _VARIANCE)
    projection = (vectors[:, -_COMPONENTS:] / scales).astype(np.float32)

    def described(change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        with temporary_file() as file:
            for start in range(0, len(places), _BLOCK):
                grays = [thumbnails[place].gray for place in places[start : start + _BLOCK]]
                block = _magnitudes([change(gray) for gray in grays])
                write_whole(file, _unit((block - mean) @ projection).data)
            return np.memmap(file, np.float32, "r", shape=(len(places), projection.shape[1]))

    whole = _unit((sample - mean) @ projection) if step == 1 else described(np.asarray)
    return whole, described(zoomed)


def _magnitudes(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return the logarithms of the Fourier magnitudes at low frequencies: float32 [N, frequencies]."""
    pixels = np.stack(images).astype(np.float32)
    pixels -= pixels.mean((1, 2), keepdims=True)
    pixels /= pixels.std((1, 2), keepdims=True) + 1e-3
    rows = ((pixels * _WINDOW).reshape(-1, SIDE) @ _ACROSS).view(np.complex64)
    # One product of all images: BLAS would start and stop its threads for each.
    columns = rows.reshape(len(images), SIDE, -1).transpose(1, 0, 2).reshape(SIDE, -1)
    spectrum = (_DOWN @ columns).reshape(len(_DOWN), len(images), -1).transpose(1, 0, 2)
    logarithms = np.log1p(np.abs(spectrum)).reshape(len(images), -1)
    return logarithms - logarithms.mean(1, keepdims=True)


def _waves(frequencies: np.ndarray) -> np.ndarray:
    """Return the rows of the Fourier transform for some frequencies: complex64 [frequencies, SIDE]."""
    return np.exp(-2j * np.pi / SIDE * np.outer(frequencies, np.arange(SIDE))).astype(np.complex64)


# Real and imaginary parts in turns, since the pixels are real.
_ACROSS = np.ascontiguousarray(_waves(np.arange(_FREQUENCIES)).T).view(np.float32)
_DOWN = _waves(np.arange(1 - _FREQUENCIES, _FREQUENCIES))
# The square of a Hann window: the border, which a shift replaces, hardly counts.
_WINDOW = np.outer(*[np.hanning(SIDE + 2)[1:-1] ** 2] * 2).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)
