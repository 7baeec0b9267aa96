"""Fine-tuning: from labelled images to a run.

A frozen backbone is run once over every image and only the head is trained on its features;
``full`` goes on from there and trains every layer.  Knows nothing of export or devices.
"""

from __future__ import annotations

import csv
import importlib
import json
import logging
import math
import os
import platform
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime import __version__
from edgeclf_runtime.files.outputs import claim_output, new_folder
from edgeclf_runtime.images.preprocess import RESIZE_MODES, Preprocessing

from ..data.datasets import Dataset, load_dataset
from ..data.integrity import check_for_training
from ..data.schemas import RUN_FORMAT, RUN_FORMAT_VERSION
from ..data.splits import SplitOptions
from ..errors import OptionError
from ..progress import say
from .features import extract_features
from .runs import METRICS_FILE, RUN_FILE, WEIGHTS_FILE, split_facts, write_split

FINETUNE = ("head", "full")
_EPOCHS = {"head": 12, "full": 8}
_VERSIONED = ("torch", "torchvision", "timm", "lightning", "numpy", "cv2", "onnx", "onnxruntime")


@dataclass(frozen=True)
class TrainOptions:
    """What to train, and how."""

    backbone: str = "efficientnet_lite0"
    """A timm model's name."""
    weights: str = "imagenet"
    """imagenet (from an installed package), none (random), or a state dict's file."""
    finetune: str = "head"
    """head: the backbone stays frozen and is run once over each image; full: every layer is trained."""
    epochs: int | None = None
    """Passes over the training images; None means 12 for the head and 8 for full."""
    image_size: int | None = None
    """Side of the square that the model sees, in pixels; None takes the backbone's own."""
    resize: str = "crop"
    """crop: the largest centred square; stretch: the whole image; letterbox: the whole image and bars."""
    batch_size: int = 32
    """Images in a step of training."""
    learning_rate: float = 1e-3
    """Peak of the one-cycle schedule of AdamW."""
    flips: str = "horizontal"
    """Augmentation of full fine-tuning: none, horizontal, or all (both ways and right angles)."""
    seed: int = 0
    """Changes the division of the data, the head's start and the order of the images."""
    test: float = 0.25
    """Share of all images held out for the test, where the data brings no division."""
    val: float = 0.1
    """Share of the others to validate on, where the data brings no division."""
    skip_unreadable: bool = False
    """Leave out the images that cannot be decoded, instead of stopping."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("finetune", FINETUNE),
            ("resize", RESIZE_MODES),
            ("flips", ("none", "horizontal", "all")),
        ):
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} is {getattr(self, name)!r}; {', '.join(allowed)} was expected")
        for name, low, high in (
            ("epochs", 1, 10_000),
            ("image_size", 32, 1024),
            ("batch_size", 1, 4096),
            ("seed", 0, 2**31),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise OptionError(f"{name.replace('_', '-')} is {value}; {low} to {high} was expected")
        if not 0 < self.learning_rate < 1:
            raise OptionError(f"learning-rate is {self.learning_rate}; more than 0 and less than 1 was expected")
        if self.finetune == "full" and self.batch_size < 2:
            raise OptionError("batch-size is 1; 2 or more was expected for full, whose batch norm needs them")
        SplitOptions(self.seed, self.test, self.val)

    @property
    def passes(self) -> int:
        """The number of epochs that ``epochs`` stands for."""
        return self.epochs or _EPOCHS[self.finetune]

    @property
    def split(self) -> SplitOptions:
        """How the data is divided where it brings no division."""
        return SplitOptions(self.seed, self.test, self.val)


@dataclass(frozen=True)
class TrainReport:
    """A finished training."""

    run: str
    labels: tuple[str, ...]
    images: dict[str, int]
    epochs: int
    metrics: dict[str, float]
    """Of the last epoch: loss, val_loss, val_accuracy, val_macro_f1."""
    warnings: tuple[str, ...]
    """What the check of the data found and did not stop at."""

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def __str__(self) -> str:
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        images = ", ".join(f"{count} {split}" for split, count in self.images.items())
        return f"{self.run}: {len(self.labels)} labels, {images}\nlast of {self.epochs} epochs: {metrics}"


def train(
    data: str | Path | Dataset, output: str | Path, options: TrainOptions | None = None, overwrite: bool = False
) -> TrainReport:
    """Check a data set, fine-tune a backbone on it and write a run.

    The same seed, data and versions give the same weights.  Raises DataError where the data
    cannot be trained on, OptionError, WeightsError, and OutputError where ``output`` is taken.
    """
    options = options or TrainOptions()
    claim_output(output, overwrite, RUN_FILE)
    dataset, report = check_for_training(load_dataset(data, options.split), options.skip_unreadable)
    found = tuple(str(finding) for finding in report.findings)
    for line in found:
        say(line)
    import torch
    from lightning import seed_everything
    from safetensors.torch import save

    from .backbones import create

    _quiet_lightning()
    seed_everything(options.seed, verbose=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    network = create(options.backbone, len(dataset.labels), options.weights)
    spec = preprocessing_of(network, options)
    rows = _fit(network, dataset, spec, options)
    with new_folder(output, overwrite, RUN_FILE) as folder:
        work = Path(folder)
        weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
        (work / WEIGHTS_FILE).write_bytes(save(weights))
        facts = {
            "format": RUN_FORMAT,
            "format_version": RUN_FORMAT_VERSION,
            "labels": list(dataset.labels),
            "preprocessing": spec._asdict(),
            "options": asdict(options),
            "data": {
                "name": Path(os.path.abspath(dataset.name)).name,
                "root": os.path.abspath(dataset.root),
                "split": split_facts(dataset),
                "split_sha256": write_split(work, dataset),
                "images": dataset.counts(),
                "findings": list(found),
            },
            # JSON has no NaN.
            "metrics": {name: value if math.isfinite(value) else None for name, value in rows[-1].items()},
            "versions": versions(),
        }
        (work / RUN_FILE).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        _write_metrics(work / METRICS_FILE, rows)
    last = {name: value for name, value in rows[-1].items() if name != "epoch"}
    return TrainReport(str(output), dataset.labels, dataset.counts(), len(rows), last, found)


def versions() -> dict[str, str]:
    """Return the versions of what decides the weights and the model files."""
    modules = {name: importlib.import_module(name).__version__ for name in _VERSIONED}
    return {"python": platform.python_version(), "edgeclf": __version__, **modules}


def preprocessing_of(network: Any, options: TrainOptions) -> Preprocessing:
    """Return the preprocessing that the options ask for; OptionError where the network cannot take its images."""
    import torch

    size = options.image_size or network.backbone.pretrained_cfg["input_size"][-1]
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, size, size, 3))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise OptionError(
            f"{options.backbone} cannot take images of {size} x {size} ({str(error).splitlines()[0]}); "
            f"choose another --image-size, say {network.backbone.pretrained_cfg['input_size'][-1]}"
        ) from None
    return Preprocessing(size, size, resize=options.resize).check()


def _fit(network: Any, dataset: Dataset, spec: Preprocessing, options: TrainOptions) -> list[dict[str, float]]:
    from .loop import fit_head, fit_network

    parts = {split: dataset.split(split) for split in ("train", "val")}
    targets = {split: np.array([dataset.index(sample) for sample in part]) for split, part in parts.items()}
    rows: list[dict[str, float]] = []
    # A head on random features, which shrink from layer to layer until batch norm has learned, has huge weights, and
    # training all layers from there does not recover.
    if options.finetune == "head" or options.weights != "none":
        features = {
            split: extract_features(network, part, spec, f"features of {split}") for split, part in parts.items()
        }
        epochs = options.passes if options.finetune == "head" else _EPOCHS["head"]
        rows = fit_head(network.head, features, targets, epochs, options.batch_size, options.learning_rate)
    if options.finetune == "full":
        paths = {split: [sample.path for sample in part] for split, part in parts.items()}
        rows = fit_network(
            network, paths, targets, spec, options.passes, options.batch_size, options.learning_rate, options.flips
        )
    return rows


def _write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _quiet_lightning() -> None:
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
