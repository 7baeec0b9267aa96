"""Measures an imported model on labeled images, with its own settings and with the usual ones.

A wrong color order or normalization raises no error, but gives wrong labels: comparing accuracies is the only way to see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeclf_runtime.images.preprocess import as_batch

from ...data.temporary import temporary_folder
from ...display.progress import say
from ...evaluation.comparison import mcnemar
from ...evaluation.evaluation_set import EvaluationSet
from ...graph.contract import Normalization
from ...graph.foreign_model import Core
from ...graph.inference import infer_file
from ...graph.onnx_file import save_model
from ...options import IMAGENET

MOST_IMAGES = 200
"""Images to measure on, evenly spaced over the data."""
EVIDENT_P, EVIDENT_GAIN = 0.001, 0.05
"""Other settings are evidently right if McNemar's p-value is at most this, and accuracy rises by at least that."""
_ZERO, _ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_CAFFE = (103.939, 116.779, 123.68)
"""Mean of ImageNet's training images in Caffe's models, BGR, values 0 to 255."""
_NORMALIZATIONS = {
    "--range 0-1 --mean 0 --std 1": Normalization("0-1", _ZERO, _ONE),
    "--range 0-1 --mean imagenet --std imagenet": Normalization("0-1", IMAGENET["mean"], IMAGENET["std"]),
    "--range -1..1 --mean 0 --std 1": Normalization("-1..1", _ZERO, _ONE),
    "--range 0-255 --mean 0 --std 1": Normalization("0-255", _ZERO, _ONE),
    f"--range 0-255 --mean {','.join(map(str, _CAFFE))} --std 1": Normalization("0-255", _CAFFE, _ONE),
}


@dataclass(frozen=True)
class Way:
    """One way to make a model's input, as options of the command."""

    color: str
    options: str
    normalization: Normalization

    def is_same(self, other: Way) -> bool:
        """Return whether both make the same input."""
        mine, others = self.normalization, other.normalization
        return (
            self.color == other.color
            and np.allclose(mine.weight, others.weight, 1e-3)
            and np.allclose(mine.bias, others.bias, 1e-3, 1e-3)
        )


@dataclass(frozen=True)
class Measured:
    """One way, and which images are right with it."""

    way: Way
    right: np.ndarray
    """bool [images]."""

    @property
    def accuracy(self) -> float:
        """Share of the images that are right."""
        return float(self.right.mean())


def way_of(color: str, normalization: Normalization) -> Way:
    """Return given settings as a way."""
    mean, std = (",".join(f"{value:g}" for value in values) for values in (normalization.mean, normalization.std))
    return Way(color, f"--range {normalization.range} --mean {mean} --std {std}", normalization)


def usual_ways() -> list[Way]:
    """Return both color orders with each usual normalization."""
    ways = []
    for options, one in _NORMALIZATIONS.items():
        other = _reversed(one)
        # The mean imagenet is RGB, and the option reverses it for BGR; numbers are in the order of the color.
        rgb, bgr = (other, one) if one.mean == _CAFFE else (one, other)
        named = options if one.mean != _CAFFE else way_of("RGB", rgb).options
        ways += [Way("RGB", named, rgb), Way("BGR", options, bgr)]
    return ways


def _reversed(one: Normalization) -> Normalization:
    return Normalization(one.range, one.mean[::-1], one.std[::-1])


def measure_ways(core: Core, layout: str, images: EvaluationSet, ways: list[Way]) -> list[Measured]:
    """Classify the images in each way; ``images``: made with the color RGB."""
    found = []
    with temporary_folder() as folder:
        path = Path(folder, "core.onnx")
        save_model(core.model, path, {})
        for number, way in enumerate(ways, 1):
            scores = infer_file(path, "fp32", _batches(images, way, layout, f"settings {number} of {len(ways)}"))
            found.append(Measured(way, scores.reshape(len(images), -1).argmax(1) == images.truth))
    return found


def _batches(images: EvaluationSet, way: Way, layout: str, what: str) -> Iterator[np.ndarray]:
    for pixels in images.pixels(what):
        batch = as_batch([pixels])
        yield way.normalization.apply(batch[..., ::-1] if way.color == "BGR" else batch, layout)


def evidence(own: Measured, others: list[Measured], data: str) -> str:
    """Return which other settings are evidently right, as an error says it, or ""."""
    best = max(others, key=lambda one: one.accuracy, default=own)
    won, lost = int((best.right & ~own.right).sum()), int((own.right & ~best.right).sum())
    if best.accuracy - own.accuracy < EVIDENT_GAIN or mcnemar(lost, won) > EVIDENT_P:
        return ""
    color = best.way.color != own.way.color
    same = best.way.is_same(Way(best.way.color, "", own.way.normalization))
    better, worse = (best.way.color, own.way.color) if same else (_named(best.way, color), _named(own.way, color))
    use = f"--color {best.way.color}" if same else better
    return (
        f"{better} gives {best.accuracy:.1%} where {worse} gives {own.accuracy:.1%} of {len(own.right)} images of {data}: "
        f"use {use}, or keep yours with --force"
    )


def _named(way: Way, color: bool) -> str:
    return f"--color {way.color} {way.options}" if color else way.options


def table(measured: list[Measured]) -> str:
    """Return the accuracy of each way, best first."""
    ranked = sorted(measured, key=lambda one: -one.accuracy)
    return "\n".join(f"  {one.accuracy:6.1%}  --color {one.way.color} {one.way.options}" for one in ranked)


def warn_if_useless(own: Measured, truth: np.ndarray) -> None:
    """Print a warning if always answering the most frequent label would be as good."""
    most = float(np.bincount(truth).max() / len(truth))
    if own.accuracy <= most:
        say(
            f"warning: {own.accuracy:.1%} are right, but always answering the most frequent label would be right for {most:.1%}: "
            "are the labels in the order of the model's outputs?"
        )
