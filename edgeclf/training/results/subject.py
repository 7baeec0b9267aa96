"""A Subject: what a results folder is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.images.preprocess import Preprocessing

if TYPE_CHECKING:
    from ...display.page.charts import Chart
    from ..architecture import ImageClassifier
    from .learning_curve import LearningCurve
    from .metrics import GroupFigures


@dataclass(frozen=True)
class Suspect:
    """An image whose label may be wrong."""

    path: Path
    label: str
    """The given label."""
    predicted: str
    probability: float
    """The model's probability of the given label."""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Figures that only some subjects have: a chapter of the page, and an entry of report.json."""

    name: str
    """The key in report.json."""
    title: str
    figures: Mapping[str, object]
    """The content of the entry."""
    rows: Sequence[tuple[str, str, str]]
    """Name, value and remark of each figure."""
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model, its logits for labeled images, and what else a reader should know."""

    title: str
    model: str
    """The name of its file or form, such as fp32 or torch."""
    data: str
    split: str
    root: Path
    """The folder of the images; names are shown relative to it."""
    labels: tuple[str, ...]
    truth: np.ndarray
    """int [images], indices in ``labels``."""
    logits: np.ndarray
    """float32 [images, labels]."""
    paths: Sequence[Path]
    preprocessing: Preprocessing
    temperature: float = 1.0
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    """Sentences about the images, below the verdict."""
    network: ImageClassifier | None = None
    """The torch network, for heat maps; they are left out without it."""
    history: Sequence[Mapping[str, float]] = ()
    """A row of metrics for each epoch."""
    best_epoch: float | None = None
    """The epoch whose weights were kept, if that is known."""
    curve: LearningCurve | None = None
    groups: Mapping[str, GroupFigures] = field(default_factory=dict)
    """By group of images, the least accurate first: images, accuracy, interval."""
    suspects: Sequence[Suspect] = ()
    """The most suspicious first."""
    chapters: Sequence[Chapter] = ()
    reasons: Sequence[str] = ()
    """The reason why the model rejects each image, "" if it does not; empty if that is not known."""
    distances: np.ndarray | None = None
    """float [images], distances from the training images; None if the model has none."""
    facts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Tables of facts by title: options, data, versions."""
