"""Writes small pictures of training images into a bundle, which show why a device calls an image unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, zip_longest
from pathlib import Path

import cv2
import numpy as np

from edgeclf_runtime.bundle.examples import example_name
from edgeclf_runtime.classify.known_images import KnownImages

from ..evaluation.evaluation_set import EvaluationSet

MOST_BYTES_TOGETHER = 512_000
SIDES = (96, 72, 56)
"""Longer sides in pixels; the first is used with which all pictures fit, or else the last."""
JPEG_QUALITY = 70


def write_examples(work: Path, training: EvaluationSet, known: KnownImages | None) -> list[str]:
    """Write ``examples/NUMBER.jpg`` for the training images that the summary's points name; return notes about what is missing.

    training: the images that the numbers count, with their pixels.  Each label has as many pictures as the others, as far as it
    has images, if there is no room for all.
    """
    if known is None:
        return ["there are no examples, since no model tells the distance from the training images"]
    labels = dict(zip(known.arrays["images"].tolist(), known.arrays["labels"].tolist(), strict=True))
    pictures = _fitting(_pixels(training, labels), _by_turns(labels))
    for number, data in pictures.items():
        path = work / example_name(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    left = len(labels) - len(pictures)
    return [f"{len(pictures)} small training images are in the bundle, as examples" + _about(left)]


def _about(left: int) -> str:
    return f"; {left} others are left out, to keep them below {MOST_BYTES_TOGETHER // 1000} KB" if left else ""


def _pixels(training: EvaluationSet, numbers: Iterable[int]) -> dict[int, np.ndarray]:
    """Return the training images with these numbers, as OpenCV orders colors."""
    wanted, backwards = set(numbers), slice(None, None, -1 if training.spec.color == "RGB" else 1)
    return {number: one[:, :, backwards] for number, one in enumerate(training.pixels()) if number in wanted}


def _by_turns(labels: Mapping[int, int]) -> list[int]:
    """Return the images' numbers: the first of each label, then the second of each, and so on."""
    by_label: dict[int, list[int]] = {}
    for number, label in labels.items():
        by_label.setdefault(label, []).append(number)
    return [number for number in chain(*zip_longest(*by_label.values())) if number is not None]


def _fitting(pixels: Mapping[int, np.ndarray], order: Iterable[int]) -> dict[int, bytes]:
    """Return pictures as JPEG files, by number: all of them, or the first of the order that fit at the smallest size."""
    order = list(order)
    for side in SIDES:
        pictures = {number: _jpeg(pixels[number], side) for number in order}
        sizes = np.cumsum([len(data) for data in pictures.values()])
        if not len(sizes) or sizes[-1] <= MOST_BYTES_TOGETHER:
            return pictures
    return {number: pictures[number] for number in order[: int((sizes <= MOST_BYTES_TOGETHER).sum())]}


def _jpeg(pixels: np.ndarray, side: int) -> bytes:
    height, width = pixels.shape[:2]
    scale = min(side / max(height, width), 1)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
