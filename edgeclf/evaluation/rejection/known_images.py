"""Fits the summary of the training images' features, from which the device tells how far an image is from them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.classify.known_images import ARRAYS, MOST_BYTES, SCALES, KnownImages, closeness
from edgeclf_runtime.files.outputs import new_file

from ...errors import ModelError

MOST_DIMENSIONS = 64
"""Main directions that are kept; a device multiplies each image's features by them."""
MOST_POINTS = 1024
"""Points of all labels together."""
POINTS_PER_LABEL = 10
MOST_ROWS = 4096
"""Images whose features give the main directions, chosen at random; the time grows with the square of the smaller of images and features."""
SHRINKAGE = 0.01
"""Share of a covariance that is replaced by the mean variance within a label, the same in all directions."""
_LEAST_SPREAD = 1e-6
_LEAST_VARIANCE = 1e-9
_LEAST_LENGTH = 1e-12
_ROWS = 8192


def fit_known_images(
    features: np.ndarray,
    labels: np.ndarray,
    val_features: np.ndarray,
    val_logits: np.ndarray,
    seed: int = 0,
) -> KnownImages:
    """Summarize training images' features, so that the distances of validation images have mean 0 and unit scale.

    features: float32 [training images, features].  labels: int [training images].  val_features, val_logits: float32
    [validation images, features] and [validation images, labels]; the model was not trained on those, so they are as far from
    the training images as new images are.

    The points are the centers of k-means within each label; with more labels than MOST_POINTS, within all images.
    Raises ModelError for features that are not finite or do not fit the labels.
    """
    _check(features, labels, "training")
    mean, directions = _main_directions(features, seed)
    places = np.concatenate(
        [(_unit_rows(features[i : i + _ROWS]) - mean) @ directions for i in range(0, len(features), _ROWS)]
    )
    points, images = _points(places, np.asarray(labels), seed)
    arrays = {"mean": mean, "directions": directions, "points": points, "scales": np.ones(SCALES)}
    arrays |= {"images": images, "labels": np.asarray(labels)[images]}
    # With too many labels for a center each, images share the center of the nearest point.
    groups = labels if len(np.unique(labels)) <= MOST_POINTS else _nearest(places, points)
    arrays |= _variation(places, np.asarray(groups))
    unscaled = KnownImages({name: np.ascontiguousarray(value, ARRAYS[name][0]) for name, value in arrays.items()})
    return unscaled.scaled(fit_scales(unscaled, val_features, val_logits))


def fit_scales(known: KnownImages, val_features: np.ndarray, val_logits: np.ndarray) -> list[float]:
    """Return the scales with which the distances of validation images have mean 0 and unit scale, SCALES numbers.

    Each file of a network has its own: val_features, val_logits as for fit_known_images(), as that file returns them.
    """
    _check(val_features, val_logits, "validation")
    parts = (*known.parts(val_features), closeness(val_logits))
    return [value for part in parts for value in _mean_and_spread(part)]


def known_images_bytes(known: KnownImages) -> bytes:
    """Return the file of a summary, which the runtime's ``read_known_images`` reads; ModelError if it is too large."""
    stream = io.BytesIO()
    everything: dict[str, Any] = dict(known.arrays)
    np.savez(stream, **everything)
    data = stream.getvalue()
    if len(data) > MOST_BYTES:
        raise ModelError(
            f"the summary of {known.features} features takes {len(data)} bytes, and a bundle may hold {MOST_BYTES}: "
            "choose a backbone with fewer features"
        )
    return data


def write_known_images(path: str | Path, known: KnownImages, overwrite: bool = False) -> None:
    """Write a summary; OutputError as of ``files.outputs.new_file``."""
    data = known_images_bytes(known)
    with new_file(path, overwrite) as work:
        Path(work).write_bytes(data)


def _check(features: np.ndarray, beside: np.ndarray, what: str) -> None:
    if features.ndim != 2 or not features.size or len(features) != len(beside):
        raise ModelError(
            f"the {what} images' features have the shape {list(features.shape)}; one row for each of {len(beside)} images was expected"
        )
    bad = sum(int((~np.isfinite(features[i : i + _ROWS])).any(1).sum()) for i in range(0, len(features), _ROWS))
    if bad:
        raise ModelError(
            f"the features of {bad} of {len(features)} {what} images are not finite: train again, with a lower learning rate"
        )


def _unit_rows(features: np.ndarray) -> np.ndarray:
    rows = np.asarray(features, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _LEAST_LENGTH)


def _main_directions(features: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the rows, scaled to length 1, and the directions of largest variance, [features, dimensions]."""
    from scipy.linalg import eigh

    if len(features) > MOST_ROWS:
        features = features[np.sort(np.random.default_rng(seed).choice(len(features), MOST_ROWS, replace=False))]
    rows = _unit_rows(features).astype(np.float64)
    mean = rows.mean(0)
    rows -= mean
    # Of the two products, the smaller one; their eigenvalues are the same.
    few = len(rows) < rows.shape[1]
    scatter = rows @ rows.T if few else rows.T @ rows
    count = min(len(scatter), _most_dimensions(rows.shape[1]))
    variance, vectors = eigh(scatter, subset_by_index=[len(scatter) - count, len(scatter) - 1])
    # Fewer images than features leave directions without any variance.
    kept = max(1, int((variance > variance[-1] * 1e-6).sum()) if variance[-1] > _LEAST_LENGTH else 1)
    vectors = vectors[:, ::-1][:, :kept]
    directions = rows.T @ vectors if few else vectors
    length = np.linalg.norm(directions, axis=0)
    return mean.astype(np.float32), (directions / np.maximum(length, _LEAST_LENGTH)).astype(np.float32)


def _most_dimensions(features: int) -> int:
    """Return how many directions fit the file beside all else."""
    room = MOST_BYTES // 2 // features
    return max(1, min(MOST_DIMENSIONS, (room - 4) // 2))


def _variation(places: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays by which the first part of the distance is computed: within, centers, weights."""
    present, members = np.unique(groups, return_inverse=True)
    centers = np.stack([places[members == number].mean(0) for number in range(len(present))])
    around = places - centers[members]
    variance, vectors = np.linalg.eigh(around.T @ around / len(places))
    typical = float(variance.mean())
    within = vectors / np.sqrt(np.maximum((1 - SHRINKAGE) * variance + SHRINKAGE * typical, _LEAST_VARIANCE))
    # The mean of all places is about 0.  A single label varies as all images do.
    total = (1 - SHRINKAGE) * (places**2).mean(0) + SHRINKAGE * typical
    weights = 1 / np.maximum(total, _LEAST_VARIANCE) if len(present) > 1 else np.zeros(len(total))
    return {"within": within, "centers": centers @ within, "weights": weights}


def _nearest(places: np.ndarray, points: np.ndarray) -> np.ndarray:
    squares = (points**2).sum(1)
    parts = (places[i : i + _ROWS] for i in range(0, len(places), _ROWS))
    return np.concatenate([(squares - 2 * part @ points.T).argmin(1) for part in parts])


def _points(places: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the points, [points, dimensions], and for each the number of the nearest image of its group."""
    present = np.unique(labels)
    if len(present) > MOST_POINTS:
        labels, present = np.zeros(len(places), int), np.zeros(1, int)
    each = MOST_POINTS if len(present) == 1 and len(places) > MOST_POINTS else MOST_POINTS // len(present)
    points, images = [], []
    for label in present:
        numbers = np.flatnonzero(labels == label)
        centers = _centers(places[numbers], each if len(present) == 1 else min(each, POINTS_PER_LABEL), seed)
        squares = ((places[numbers, None] - centers) ** 2).sum(2)
        points.append(centers)
        images.append(numbers[squares.argmin(0)])
    return np.concatenate(points), np.concatenate(images)


def _centers(places: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return at most ``count`` centers of k-means; all different places if there are no more."""
    from sklearn.cluster import KMeans

    different = np.unique(places, axis=0)
    if len(different) <= count:
        return different
    fitted = KMeans(count, n_init=1, max_iter=25, random_state=seed).fit(places)
    return np.asarray(fitted.cluster_centers_)


def _mean_and_spread(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), _LEAST_SPREAD)
