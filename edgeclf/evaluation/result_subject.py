"""Describes an evaluation for its results folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.classify.decision import softmax

from ..data.findings import left_out_lines
from ..errors import WeightsError
from ..training.results.subject import Subject, Suspect
from ..training.results.training import run_tables
from ..training.train import versions
from .audit.confident import judge
from .image_selection import Selection
from .open_model import OpenModel
from .rejection.answers import Answers
from .rejection.report import rejection_chapters

if TYPE_CHECKING:
    from ..training.architecture import ImageClassifier
    from .evaluate import Evaluation

_LIBRARIES = ("onnxruntime", "numpy", "cv2")


def subject_of(
    found: Evaluation, opened: OpenModel, model: str | Path, chosen: Selection, known: Answers, foreign: Answers | None
) -> Subject:
    """Return what a results folder shows of an evaluation.

    model, opened: what was evaluated.  chosen: its images.  known, foreign: the answers to them, and to foreign images.
    """
    notes = left_out_lines(found.unreadable, found.trained_on, found.near_trained)
    if found.split == "train":
        notes.append("The model was trained on these images: it is less accurate on others.")
    return Subject(
        title=f"Evaluation of {os.path.basename(os.path.abspath(model))}",
        model=found.model,
        data=os.path.basename(os.path.abspath(found.data)),
        split=found.split,
        root=chosen.root,
        labels=found.labels,
        truth=found.truth,
        logits=found.logits,
        paths=found.paths,
        preprocessing=opened.classifier.preprocessing,
        temperature=found.metrics.temperature,
        warnings=[str(finding) for finding in chosen.findings],
        notes=[f"{note[0].upper()}{note[1:]}" for note in notes],
        network=_network(opened),
        groups=found.groups,
        suspects=suspects_of(found),
        chapters=list(rejection_chapters(found, known, foreign)),
        reasons=known.reasons,
        distances=known.distances,
        facts=_facts(opened, found),
    )


def suspects_of(found: Evaluation) -> list[Suspect]:
    """Return the images whose labels are likely wrong; none of train, whose labels the model has learned."""
    if found.split == "train" or not np.isfinite(found.logits).all():
        return []
    probabilities, every = softmax(found.logits / found.metrics.temperature), np.ones(found.images, bool)
    judged = judge(probabilities, found.truth, every, every)
    return [
        Suspect(
            found.paths[row],
            found.labels[found.truth[row]],
            found.labels[judged.suggested[row]],
            float(probabilities[row, found.truth[row]]),
        )
        for row in judged.wrong
    ]


def _network(opened: OpenModel) -> ImageClassifier | None:
    """Return the torch network of the run that the model is of, None if there is none."""
    if opened.run is None or opened.run.imported:
        return None
    try:
        return opened.run.network()
    except WeightsError:
        return None


def _facts(opened: OpenModel, found: Evaluation) -> dict[str, Mapping[str, object]]:
    tables: dict[str, Mapping[str, object]] = {
        "evaluated data": {"name": os.path.basename(found.data), "split": found.split, "images": found.images}
    }
    if opened.run is not None:
        tables |= {f"{name} of the run": table for name, table in run_tables(opened.run.facts).items()}
    return {**tables, "versions": versions(_LIBRARIES)}
