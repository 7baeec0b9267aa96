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
from edgeclf_runtime.images.preprocess import Preprocessing

from ..data.datasets import Dataset, load_dataset
from ..data.integrity import check_for_training
from ..data.schemas import RUN_FORMAT, RUN_FORMAT_VERSION
from ..errors import OptionError
from ..options import EPOCHS, TrainOptions
from ..progress import say
from .features import extract_features
from .runs import METRICS_FILE, RUN_FILE, WEIGHTS_FILE, split_facts, write_split

_VERSIONED = ("torch", "torchvision", "timm", "lightning", "numpy", "cv2", "onnx", "onnxruntime")


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
        epochs = options.passes if options.finetune == "head" else EPOCHS["head"]
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
