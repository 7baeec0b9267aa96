"""Sentences about a bundle: what targets lack, what was left out or is tried late, and thresholds that leave few labels."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ..evaluation.confidence_threshold import Confidence
from ..evaluation.rejection.distance_threshold import images_needed
from ..options import BundleOptions
from ..quantization.report import REPORT_PAGE, QuantizedFile
from ..training.runs import Run
from .rejection import ModelRejection

LITTLE_COVERAGE = 0.5
"""A threshold that leaves fewer labels than this share is reported."""


def about_lacks(
    run: Run, lacks: Mapping[str, tuple[str, ...]], refused: Collection[str], stale: bool, data: str | None
) -> Iterator[str]:
    """Yield a sentence for each target that lacks models, with the command that makes them.

    refused: models that did not pass.  data: what has the run's images now, if they have moved.
    """
    again = " --overwrite" if stale else ""
    moved = f" --data {shlex.quote(data)}" if data else ""
    for target, names in lacks.items():
        lost = [name for name in names if name in refused and not again]
        wanting = [name for name in names if name not in lost]
        if wanting:
            command = f"edgeclf quantize {shlex.quote(str(run.path))} --target {target}{again}{moved}"
            yield f"{target} lacks {', '.join(wanting)}; make them with: {command}"
        if lost:
            yield f"{target} lacks {', '.join(lost)}, which did not pass the accuracy gate; see {run.path / REPORT_PAGE}"


def about_repeated(repeated: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each model that is left out, since another one computes the same."""
    for name, other in repeated.items():
        yield f"{name} is left out: {other} is the same, and runs on its backends too"


def about_slower(slower: Iterable[QuantizedFile]) -> Iterator[str]:
    """Yield a sentence for each file that was slower than FP32."""
    for file in slower:
        yield (
            f"{file.name} was slower than fp32 on the machine that quantized it ({file.latency_ms:.1f} ms against "
            f"{file.fp32_ms:.1f}): a device tries fp32 first, and measures both on its first start"
        )


def about_coverage(confidences: Mapping[str, Confidence], options: BundleOptions) -> Iterator[str]:
    """Yield a sentence if a threshold leaves few labels."""
    little = {name: one.coverage for name, one in confidences.items() if one.coverage < LITTLE_COVERAGE}
    if options.common_precision is not None and little:
        shares = ", ".join(f"{share:.0%} with {name}" for name, share in little.items())
        yield (
            f"for a precision of {options.common_precision:g} few images keep a label ({shares}); the others are labeled "
            '"unknown": choose a lower --precision, or train on more images'
        )


def about_rejections(rejections: Mapping[str, ModelRejection]) -> Iterator[str]:
    """Yield what was fitted to validation images beside the common threshold: a line for each model."""
    for name, one in rejections.items():
        for label, label_threshold in one.labels.items():
            low, high = label_threshold.interval
            yield (
                f"{name}: {label} needs a confidence of {label_threshold.threshold:.4f}: {label_threshold.kept} of "
                f"{label_threshold.images} validation images keep it, {label_threshold.precision:.1%} right "
                f"({low:.1%} to {high:.1%})"
            )
        if one.distance is not None:
            low, high = one.distance.interval
            needed = images_needed(one.distance.keep)
            few = f"; to promise {one.distance.keep:g}, {needed} are needed" if one.distance.images < needed else ""
            yield (
                f"{name}: unknown above the distance {one.distance.threshold:.2f}, which keeps {one.distance.kept:.1%} of "
                f"{one.distance.images} validation images ({low:.1%} to {high:.1%} of new ones){few}"
            )
        if one.label_sets is not None:
            low, high = one.label_sets.interval
            yield (
                f"{name}: label sets have {one.label_sets.mean_size:.2f} labels on average, and the right one for "
                f"{one.label_sets.coverage:.1%} of images ({low:.1%} to {high:.1%})"
            )


def about_features(names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence if models have no features."""
    if names:
        yield (
            f"without features: {', '.join(names)}; a model has them if it ends with a linear layer, and if this version of edgeclf "
            "exported and quantized it"
        )
