"""Exports and quantizes a network before it is trained, so that hours are not spent on one that no device can run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from edgeclf_runtime.images.preprocess import Preprocessing

from ...display.progress import say
from ...options import TrainOptions
from ...targets import FLAVORS, TARGETS
from ..backbones import create
from ..stages import check_freeze
from ..start import start
from ..weights.sources import Weights, find_weights
from .check_export import TRIED, check_export
from .passes import pass_of


def try_backbone(options: TrainOptions, labels: Sequence[str]) -> tuple[Weights | None, Preprocessing]:
    """Find a backbone's weights, try the network that they make, and return them with the network's preprocessing.

    No image is needed.  What passed is not tried again: in this process, or by this user with the same versions.  Raises
    OptionError, WeightsError or DependencyError for a backbone or weights that are not there or do not fit, and ModelError as
    :func:`check_export` does.
    """
    weights = find_weights(options.backbone, options.weights, options.download)
    if options.freeze:
        check_freeze(create(options.backbone, len(labels)), options.freeze)
    return weights, _tried(options, tuple(labels), weights)


@lru_cache(maxsize=8)
def _tried(options: TrainOptions, labels: tuple[str, ...], weights: Weights | None) -> Preprocessing:
    from ..machine.determinism import seeded
    from ..machine.threads import torch_threads

    flavors = flavors_to_try(options.targets)
    passed = pass_of(options, labels, weights, flavors)
    if passed and (size := passed.recall()):
        return Preprocessing(size, size, resize=options.resize).check()
    say(f"trying export and quantization of {options.backbone}")
    # What the caller draws at random afterwards does not depend on it.  Threads would wait more than compute for two images.
    with seeded(options.seed), torch_threads(1):
        network, spec = start(options, labels, weights)[:2]
        check_export(network, spec, flavors)
    if passed:
        passed.remember(spec.height)
    return spec


def flavors_to_try(targets: Sequence[str]) -> tuple[str, ...]:
    """Return the flavors whose trial shows what targets need; without targets, all of TRIED."""
    models = {model for target in targets or TARGETS for model in TARGETS[target].models if model in FLAVORS}
    return tuple(name for name, same in TRIED.items() if not models.isdisjoint(same))
