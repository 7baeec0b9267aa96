"""The images of a report: the most confident errors, and examples of the most frequent confusions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeclf_runtime.classify.decision import softmax

from ...data.pixels import load_pixels
from ...display.page.pictures import picture
from ...errors import DependencyError, ImageError
from .figures import Figures
from .heat_maps import heat_maps
from .subject import Subject

ERRORS = 12
PAIRS = 6
EXAMPLES = 2
SUSPECTS = 12
NO_NETWORK = "No heat maps: this model file has no torch network behind it, whose gradients they need."
NO_MAPS = "No heat maps: the head of this backbone reads no feature maps that Grad-CAM could use."


@dataclass(frozen=True)
class Shown:
    """An image of the page; picture and heat are data URIs, "" if there are none."""

    name: str
    label: str
    predicted: str
    confidence: float
    picture: str
    heat: str = ""


@dataclass(frozen=True)
class Pair:
    """A confusion, and examples of it."""

    label: str
    predicted: str
    images: int
    share: float
    """Share of the label's images."""
    examples: tuple[Shown, ...]


def worst_errors(subject: Subject) -> tuple[list[Shown], str]:
    """Return the most confident errors, and why they have no heat maps, "" if they have."""
    rows = _wrong(subject)[:ERRORS]
    pixels = _load(subject, [subject.paths[row] for row in rows])
    heats, reason = _heat(subject, rows, pixels)
    return [_shown(subject, row, image, heat) for row, image, heat in zip(rows, pixels, heats, strict=True)], reason


def confused_pairs(subject: Subject, found: Figures) -> list[Pair]:
    """Return the most frequent confusions, each with its most confident errors."""
    wrong, predicted = _wrong(subject), subject.logits.argmax(1)
    pairs = []
    for true, given, images in found.confusions()[:PAIRS]:
        rows = [row for row in wrong if subject.truth[row] == true and predicted[row] == given][:EXAMPLES]
        pixels = _load(subject, [subject.paths[row] for row in rows])
        examples = tuple(_shown(subject, row, image, None) for row, image in zip(rows, pixels, strict=True))
        share = images / found.labels[true].images
        pairs.append(Pair(subject.labels[true], subject.labels[given], images, share, examples))
    return pairs


def suspect_images(subject: Subject) -> list[Shown]:
    """Return the images whose labels are most likely wrong."""
    most = subject.suspects[:SUSPECTS]
    pixels = _load(subject, [one.path for one in most])
    return [
        Shown(
            relative(one.path, subject.root),
            one.label,
            one.predicted,
            one.probability,
            "" if image is None else picture(image),
        )
        for one, image in zip(most, pixels, strict=True)
    ]


def relative(path: Path, root: Path) -> str:
    """Return an image's path below the folder of the images, with forward slashes."""
    return Path(os.path.relpath(path, root)).as_posix()


def _wrong(subject: Subject) -> list[int]:
    """Return the rows of the images that were classified wrongly, the most confident first."""
    confidence = softmax(subject.logits).max(1)
    rows = np.flatnonzero(subject.logits.argmax(1) != subject.truth)
    return [int(row) for row in rows[np.argsort(-confidence[rows], kind="stable")]]


def _load(subject: Subject, paths: Sequence[Path]) -> list[np.ndarray | None]:
    """Return images as the model sees them; None for one that is gone since it was classified."""
    found: list[np.ndarray | None] = []
    for path in paths:
        try:
            found.append(load_pixels(path, subject.preprocessing))
        except (ImageError, DependencyError):
            found.append(None)
    return found


def _heat(
    subject: Subject, rows: Sequence[int], pixels: Sequence[np.ndarray | None]
) -> tuple[Sequence[np.ndarray | None], str]:
    """Return the heat map of each image for the label that it was given wrongly, and why there are none."""
    nothing = [None] * len(rows)
    if subject.network is None:
        return nothing, NO_NETWORK
    at = [number for number, image in enumerate(pixels) if image is not None]
    if not at:
        return nothing, ""
    images = np.stack([image for image in pixels if image is not None])
    heats = heat_maps(subject.network, images, subject.logits[[rows[number] for number in at]].argmax(1))
    if heats is None:
        return nothing, NO_MAPS
    by_number = dict(zip(at, heats, strict=True))
    return [by_number.get(number) for number in range(len(rows))], ""


def _shown(subject: Subject, row: int, pixels: np.ndarray | None, heat: np.ndarray | None) -> Shown:
    logits = subject.logits[row]
    return Shown(
        name=relative(subject.paths[row], subject.root),
        label=subject.labels[subject.truth[row]],
        predicted=subject.labels[logits.argmax()],
        confidence=float(softmax(logits / subject.temperature).max()),
        picture="" if pixels is None else picture(pixels),
        heat="" if pixels is None or heat is None else picture(pixels, heat),
    )
