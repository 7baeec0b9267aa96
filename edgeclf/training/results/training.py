"""Reports a training: the run's own results folder, measured on its validation images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.images.preprocess import Preprocessing

from ...data.datasets import Dataset
from ..features import extract_features
from .folder import write_results
from .learning_curve import learning_curve
from .metrics import group_accuracies
from .subject import Subject

if TYPE_CHECKING:
    from ..architecture import ImageClassifier

Features = dict[str, np.ndarray]
VAL_NOTE = (
    "Measured on the validation images, which also chose the best epoch. For held-out images: "
    "edgeclf evaluate RUN DATA --report FOLDER"
)


def report_training(
    folder: Path,
    title: str,
    network: ImageClassifier,
    spec: Preprocessing,
    dataset: Dataset,
    features: Features | None,
    rows: Sequence[Mapping[str, float]],
    facts: JsonObject,
) -> None:
    """Write report.html, report.json and predictions.csv of a finished training into its run.

    features: the head's inputs, float32 [images, features], of train and val, if the backbone stayed as it was; of train,
    features of augmented images may follow.  facts: the content of run.json.
    """
    samples = dataset.split("val")
    targets = {split: np.array([dataset.index(one) for one in dataset.split(split)]) for split in ("train", "val")}
    of_val = features["val"] if features else extract_features(network, samples, spec, "evaluating val")
    weight, bias = (tensor.detach().cpu().numpy() for tensor in (network.head.weight, network.head.bias))
    logits = of_val @ weight.T + bias
    subject = Subject(
        title=f"Training of {os.path.basename(os.path.abspath(title))}",
        model=facts["options"]["backbone"],
        data=facts["data"]["name"],
        split="val",
        root=dataset.root,
        labels=dataset.labels,
        truth=targets["val"],
        logits=logits,
        paths=[sample.path for sample in samples],
        preprocessing=spec,
        warnings=facts["data"]["findings"],
        notes=(VAL_NOTE,),
        network=network.cpu(),
        history=rows,
        best_epoch=facts["metrics"].get("epoch"),
        groups=group_accuracies(logits.argmax(1) == targets["val"], [sample.group for sample in samples]),
        # Of augmented images, the first view is the image itself.
        curve=learning_curve({split: features[split][: len(targets[split])] for split in targets}, targets)
        if features
        else None,
        facts=run_tables(facts),
    )
    write_results(folder, subject)


def run_tables(facts: JsonObject) -> dict[str, Mapping[str, object]]:
    """Return the tables of a run that its report shows: options, data and versions."""
    data, shown = facts["data"] or {}, ("name", "images", "unreadable", "split", "split_sha256")
    tables = {
        "data": {name: data[name] for name in shown if data.get(name)},
        "preprocessing": facts["preprocessing"],
        "options": facts.get("options"),
        "weights": facts.get("weights"),
        "versions": facts.get("versions"),
    }
    return {name: table for name, table in tables.items() if table}
