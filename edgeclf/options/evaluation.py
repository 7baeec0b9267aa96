"""Options that evaluate, compare and use a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..errors import OptionError
from .data import EVALUATED
from .declaration import ENGINE, ENGINES, SKIP_UNREADABLE, check_fields, option

CORRUPTIONS = ("noise", "defocus", "motion", "dark", "bright", "fog", "jpeg", "rotation", "color-cast", "resolution")
"""Corruptions of images by a camera, implemented in ``evaluation/robustness/corruptions.py``."""
_SPLIT = "Images of DATA to use; all: every one that a run was not trained on."
_SPLIT_OF = "Run whose images keep their split, for a bundle or a file, which has no list of them."
_NAME = "A model of the bundle or run, such as fp32 or int8-cpu."
_PREDICTIONS = "Write path, label, predicted label and confidence of each image, why it is rejected, and its distance."


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of evaluate()."""

    split: str = option("test", _SPLIT, choices=EVALUATED)
    split_of: str | None = option(None, _SPLIT_OF, metavar="RUN", path=True, shown="the model's own")
    name: str | None = option(None, _NAME)
    predictions: str | None = option(None, _PREDICTIONS, metavar="FILE.csv", path=True)
    report: str | None = option(
        None,
        "Folder for a report to share: report.html with curves and images, report.json, predictions.csv.",
        metavar="FOLDER",
        path=True,
    )
    unknown: str | None = option(
        None,
        "Folder of images that are of none of the labels; measures how many of them the model accepts.",
        metavar="FOLDER",
        path=True,
    )
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)
    engine: str = option("local", ENGINE, choices=ENGINES)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class RobustnessOptions:
    """Options of robustness()."""

    corruptions: tuple[str, ...] = option(
        (), "A corruption to test; may be repeated.", name="--corruption", shown="all", choices=CORRUPTIONS
    )
    images: int = option(
        500, "Maximum number of images; of more, a fixed sample is taken by their content.", between=(1, math.inf)
    )
    adversarial: bool = option(
        False, "Also attack up to 100 images by FGSM and PGD, with the gradient of the run's network."
    )
    eps: float = option(8.0, "Largest change of a pixel by an attack, in levels of 0 to 255.")
    steps: int = option(10, "Steps of PGD.", between=(1, math.inf))
    split: str = option("test", _SPLIT, choices=EVALUATED)
    split_of: str | None = option(None, _SPLIT_OF, metavar="RUN", path=True, shown="the model's own")
    name: str | None = option(None, _NAME)
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.eps <= 255:
            raise OptionError(f"eps is {self.eps:g}; more than 0 and at most 255 levels was expected (8 is usual)")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The corruptions to test, in the order of the table."""
        return tuple(name for name in CORRUPTIONS if name in self.corruptions or not self.corruptions)


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of compare()."""

    split: str = option("test", _SPLIT, choices=EVALUATED)
    split_of: str | None = option(None, _SPLIT_OF, metavar="RUN", path=True, shown="the model's own")
    name_a: str | None = option(None, "A model of A, such as fp32 or int8-cpu.")
    name_b: str | None = option(None, "A model of B.")
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)
    skip_timing: bool = option(False, "Do not measure latency.")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Options of predict()."""

    name: str | None = option(None, _NAME)
    top_k: int = option(5, "Number of labels to list.", between=(1, 1_000_000))
    threshold: float | None = option(None, 'Confidence below which the label is "unknown".', between=(0, 1))
    predictions: str | None = option(None, _PREDICTIONS, metavar="FILE.csv", path=True)
    order: str | None = None
    """Of an array's channels: "rgb" (Pillow, torchvision, matplotlib) or "bgr" (OpenCV)."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class BulkOptions(PredictOptions):
    """Options of bulk_predict()."""

    engine: str = option(
        "local",
        "For --output: processes of this machine, or tasks of Ray, here or on the cluster in RAY_ADDRESS.",
        choices=ENGINES,
    )
    workers: int | None = option(
        None, "For --output: number of processes.", shown="one for each processor", between=(1, 10_000)
    )

    def without_bulk(self) -> BulkOptions:
        """Return these options with the defaults of those that only bulk_predict() has."""
        return replace(self, engine=BulkOptions.engine, workers=BulkOptions.workers)
