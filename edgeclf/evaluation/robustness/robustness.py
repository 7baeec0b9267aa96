"""Tests how much accuracy a model keeps if a camera, or an attacker, makes its images worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess

from ...data.datasets import Dataset, Sample
from ...data.pixels import load_each, read_photo
from ...display.progress import progress, track
from ...errors import OptionError
from ...graph.inference import infer
from ...options import RobustnessOptions, merged
from ...training.results.metrics import wilson_interval
from ..comparison import paired_interval
from ..evaluation_set import EvaluationSet
from ..export import open_exported
from ..image_selection import select_images
from ..open_model import OpenModel
from .attack import fgsm, pgd
from .corruptions import TABLE, corrupt, reduced
from .report import Attacks, Damage, RobustnessReport

if TYPE_CHECKING:
    from ...training.architecture import ImageClassifier

SEVERITIES = (1, 2, 3, 4, 5)
MOST_ATTACKED = 100
"""Images to attack: each takes seconds on a CPU."""
_EPS = (0.125, 0.25, 0.5, 1.0)
"""Parts of the largest change that attacks are tried with."""
_AT_ONCE = 8
_AHEAD = 4
"""Photographs whose corrupted versions wait in memory."""


def robustness(
    model: str | Path,
    data: str | Path | Dataset,
    options: RobustnessOptions | None = None,
    **keywords: object,
) -> RobustnessReport:
    """Measure a model's accuracy on images with noise, blur, other exposure and so on, in five severities.

    Photographs are corrupted before preprocessing, as a camera would; the same photograph always gets the same corruption.
    model, data: as for evaluate(), and images that the model was trained on are left out in the same way.  options:
    RobustnessOptions, or its fields as keywords.  Raises OptionError for an attack on a model without a network in torch,
    and what evaluate() raises.
    """
    options = merged(RobustnessOptions, options, keywords)
    with open_exported(model, options.name, at_once=cores()) as opened:
        network = _network(opened, model) if options.adversarial else None
        chosen = select_images(opened, model, data, options.split, options.skip_unreadable, options.split_of)
        samples = _fixed_choice(chosen.samples, options.images)
        images = EvaluationSet(samples, opened.classifier.labels, opened.classifier.preprocessing, chosen.data)
        right = _right(opened, images, options.wanted)
        attacks = None if network is None else _attacks(opened, network, images, options, right[:, 0])
    clean = right[:, 0]
    return RobustnessReport(
        model=opened.name,
        data=chosen.data,
        split=options.split,
        images=len(images),
        available=len(chosen.samples),
        accuracy=float(clean.mean()),
        accuracy_interval=wilson_interval(int(clean.sum()), len(images)),
        baseline_accuracy=float(np.bincount(images.truth).max() / len(images)),
        corruptions={
            kind: _damage(kind, clean, right[:, 1 + at * len(SEVERITIES) : 1 + (at + 1) * len(SEVERITIES)])
            for at, kind in enumerate(options.wanted)
        },
        attacks=attacks,
        trained_on=chosen.trained_on,
        near_trained=chosen.near_trained,
        unreadable=chosen.unreadable,
    )


def _network(opened: OpenModel, model: str | Path) -> ImageClassifier:
    """Return the torch network of a run, whose gradient an attack needs."""
    if opened.run is None or opened.run.imported:
        advice = (
            "attack the run that edgeclf train wrote"
            if opened.run is None
            else "measure the corruptions only, without it"
        )
        what = "it is only an ONNX file" if opened.run is None else "it was imported as ONNX"
        raise OptionError(
            f"--adversarial needs the gradient of a network in torch, and {model} has none, since {what}: {advice}"
        )
    return opened.run.network().requires_grad_(False)


def _fixed_choice(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Return at most that many samples, the same whatever their names and order are."""
    if len(samples) <= most:
        return list(samples)
    return sorted(samples, key=lambda sample: sha256_file(sample.path))[:most]


def _right(opened: OpenModel, images: EvaluationSet, kinds: Sequence[str]) -> np.ndarray:
    """Return whether each version of each image gets its label, bool [images, versions]; see _versions()."""
    versions = 1 + len(kinds) * len(SEVERITIES)
    logits = infer(opened.classifier.runner, _batches(opened, images, kinds), cores())
    predicted = logits.argmax(1).reshape(len(images), versions)
    return np.asarray(predicted == images.truth[:, None])


def _batches(opened: OpenModel, images: EvaluationSet, kinds: Sequence[str]) -> Iterator[np.ndarray]:
    spec = opened.classifier.preprocessing
    made = load_each(images.paths, lambda path: _versions(path, spec, kinds), _AHEAD)
    for versions in track(made, f"corrupting for {opened.name}", len(images)):
        yield from (as_batch([pixels]) for pixels in versions)


def _versions(path: Path, spec: Preprocessing, kinds: Sequence[str]) -> list[np.ndarray]:
    """Return a photograph as the model sees it, then by kind and severity."""
    photo = read_photo(path)
    small = reduced(photo, spec)
    return [
        preprocess(photo, spec),
        *(preprocess(corrupt(small, kind, severity), spec) for kind in kinds for severity in SEVERITIES),
    ]


def _damage(kind: str, clean: np.ndarray, right: np.ndarray) -> Damage:
    """Return what one corruption does; clean: bool [images]; right: bool [images, severities]."""
    shown = []
    for column in right.T:
        lost, won = int((clean & ~column).sum()), int((column & ~clean).sum())
        shown.append(paired_interval(lost, won, len(clean))[0] > 0)
    # From the severity on at which every drop is shown.
    first = next((at for at in range(len(shown)) if all(shown[at:])), None)
    accuracy = tuple(right.mean(0).tolist())
    return Damage(
        unit=TABLE[kind].unit,
        values=TABLE[kind].values,
        accuracy=accuracy,
        mean_accuracy=float(np.mean(accuracy)),
        lower_from=None if first is None else SEVERITIES[first],
    )


def _attacks(
    opened: OpenModel,
    network: ImageClassifier,
    images: EvaluationSet,
    options: RobustnessOptions,
    clean_right: np.ndarray,
) -> Attacks:
    """Attack the run's network, and measure the model that was opened on the images that this gives.

    clean_right: whether each image gets its label as it is, bool [images].
    """
    part = images.subset(range(min(MOST_ATTACKED, len(images))))
    batches = [as_batch([pixels]) for pixels in part.pixels()]
    eps = [options.eps * share for share in _EPS]
    found: dict[str, list[float]] = {"fgsm": [], "pgd": []}
    with progress(f"attacking {opened.name}", len(batches) * len(eps)) as advance:
        for size in eps:
            right: dict[str, list[np.ndarray]] = {"fgsm": [], "pgd": []}
            for first in range(0, len(batches), _AT_ONCE):
                clean, truth = np.concatenate(batches[first : first + _AT_ONCE]), part.truth[first : first + _AT_ONCE]
                for kind, changed in (
                    ("fgsm", fgsm(network, clean, truth, size)),
                    ("pgd", pgd(network, clean, truth, size, options.steps)),
                ):
                    right[kind].append(_logits(opened, changed).argmax(1) == truth)
                for _ in truth:
                    advance()
            for kind, hits in right.items():
                found[kind].append(float(np.concatenate(hits).mean()))
    return Attacks(
        images=len(part),
        accuracy=float(clean_right[: len(part)].mean()),
        eps=tuple(eps),
        steps=options.steps,
        fgsm=tuple(found["fgsm"]),
        pgd=tuple(found["pgd"]),
    )


def _logits(opened: OpenModel, batch: np.ndarray) -> np.ndarray:
    return infer(opened.classifier.runner, (image[None] for image in batch), cores())
