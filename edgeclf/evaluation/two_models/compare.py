"""Compares two models on the same images: is one better, or can that not be said?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.files.schema import JsonObject

from ...data.datasets import Dataset, Sample
from ...data.findings import listed
from ...data.pixels import read_photo
from ...errors import DataError, ModelError
from ...options import CompareOptions, merged
from ...training.results.metrics import measure_metrics
from ..comparison import mcnemar, paired_interval
from ..evaluation_set import EvaluationSet
from ..export import open_exported
from ..image_selection import Selection, select_images
from ..logit_store import logits_of
from ..open_model import OpenModel
from .latency import TIMED_IMAGES, time_models
from .report import CompareReport, Difference, Side
from .significance import enough_images, mid_p


def compare(
    a: str | Path,
    b: str | Path,
    data: str | Path | Dataset,
    options: CompareOptions | None = None,
    **keywords: object,
) -> CompareReport:
    """Classify the same images with two models, and test whether one is better.

    a, b: runs, ONNX files or bundles, of the same labels in any order.  data: as for evaluate(); images on which either was
    trained, or which are of another split for either, are left out.  options: CompareOptions, or its fields as keywords.  The
    time from a decoded image to its label is measured in turns.  Raises ModelError if the labels differ, DataError if no
    image is left, and what evaluate() raises.
    """
    options = merged(CompareOptions, options, keywords)
    with ExitStack() as stack:
        models = [
            (path, stack.enter_context(open_exported(path, name, at_once=cores())))
            for path, name in ((a, options.name_a), (b, options.name_b))
        ]
        order = _order(models)
        chosen = [
            select_images(opened, path, data, options.split, options.skip_unreadable, options.split_of)
            for path, opened in models
        ]
        samples = _in_both(chosen)
        images = [_images(opened, samples, chosen[0].data) for _, opened in models]
        logits = [logits_of(opened, part) for (_, opened), part in zip(models, images, strict=True)]
        # Of each model by its own labels, from here on by those of the first.
        logits[1], truth = logits[1][:, order], images[0].truth
        times: list[float | None] = [None, None]
        if not options.skip_timing:
            times = time_models(models, [read_photo(sample.path) for sample in samples[:TIMED_IMAGES]])
        sides = [
            _side(path, opened, rows, truth, time)
            for (path, opened), rows, time in zip(models, logits, times, strict=True)
        ]
    return CompareReport(
        a=sides[0],
        b=sides[1],
        data=chosen[0].data,
        split=options.split,
        images=len(samples),
        **_difference([rows.argmax(1) for rows in logits], samples, truth, images[0].labels),
        left_out=len({sample.path for part in chosen for sample in part.samples}) - len(samples),
        trained_on=max(part.trained_on for part in chosen),
        near_trained=max(part.near_trained for part in chosen),
        unreadable=max(part.unreadable for part in chosen),
    )


def _difference(
    predicted: Sequence[np.ndarray], samples: Sequence[Sample], truth: np.ndarray, labels: Sequence[str]
) -> JsonObject:
    """Return the fields of a CompareReport about the models' difference; predicted: int [images] of each."""
    right = [found == truth for found in predicted]
    won, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    return {
        "difference": (won - lost) / len(samples),
        "difference_interval": paired_interval(won, lost, len(samples)),
        "won": won,
        "lost": lost,
        "p_value": mcnemar(lost, won),
        "mid_p_value": mid_p(lost, won),
        "enough_images": enough_images(lost, won, len(samples)),
        "agreement": float((predicted[0] == predicted[1]).mean()),
        "differing": tuple(
            Difference(str(sample.path), sample.label, labels[a], labels[b])
            for sample, a, b in zip(samples, *predicted, strict=True)
            if a != b
        ),
    }


def _order(models: Sequence[tuple[str | Path, OpenModel]]) -> list[int]:
    """Return the indices of the first model's labels among the second's; ModelError if their labels differ."""
    (path_a, a), (path_b, b) = models
    ours, theirs = a.classifier.labels, b.classifier.labels
    lacks = [
        f"only {path} has {listed(sorted(set(one) - set(other)))}"
        for path, one, other in ((path_a, ours, theirs), (path_b, theirs, ours))
        if set(one) - set(other)
    ]
    if lacks:
        raise ModelError(
            f"the models have different labels, so they cannot be compared: {'; '.join(lacks)}: compare models that were "
            "trained on the same labels"
        )
    return [theirs.index(label) for label in ours]


def _in_both(chosen: list[Selection]) -> list[Sample]:
    """Return the images on which both models may be evaluated."""
    known = {sample.path for sample in chosen[1].samples}
    samples = [sample for sample in chosen[0].samples if sample.path in known]
    if not samples:
        raise DataError(
            f"no image of {chosen[0].data} may be used for both models: one of them was trained on it, or has it in another "
            "split; compare them on images that are new to both, with --split all"
        )
    return samples


def _images(opened: OpenModel, samples: list[Sample], data: str) -> EvaluationSet:
    return EvaluationSet(samples, opened.classifier.labels, opened.classifier.preprocessing, data)


def _side(path: str | Path, opened: OpenModel, logits: np.ndarray, truth: np.ndarray, time_ms: float | None) -> Side:
    metrics = measure_metrics(logits, truth, opened.classifier.in_use.temperature)
    return Side(
        path=str(path),
        model=opened.name,
        backend=opened.classifier.backend,
        accuracy=metrics.accuracy,
        accuracy_interval=metrics.accuracy_interval,
        macro_f1=metrics.macro_f1,
        calibration_error=metrics.calibration_error,
        size=opened.file.stat().st_size if opened.file else None,
        latency_ms=time_ms,
    )
