"""Fine-tunes a backbone on labeled images and writes a run.

A frozen backbone runs once over every image, and only the head is trained on its features;
``full`` continues from there and trains every layer.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import importlib
import json
import logging
import math
import os
import platform
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeclf_runtime import __version__
from edgeclf_runtime.files.outputs import claim_output, new_folder
from edgeclf_runtime.images.preprocess import Preprocessing

from ..data.checks.integrity import CheckReport, check_for_training
from ..data.datasets import Dataset, load_dataset
from ..data.schemas import RUN_FORMAT, RUN_FORMAT_VERSION
from ..display.progress import say
from ..display.report import Report
from ..errors import OptionError
from ..options import EPOCHS, TrainOptions, merged
from .features import extract_features
from .results.training import Features, report_training
from .runs import METRICS_FILE, RUN_FILE, WEIGHTS_FILE, data_facts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .backbones import ImageClassifier
    from .weights import Weights

_LOUD = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
# Set by Lightning.
_ENVIRONMENT = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG")
FROZEN = "warning: the backbone is frozen with random weights; use --finetune full, or pretrained weights"
_VERSIONED = ("torch", "torchvision", "timm", "lightning", "numpy", "cv2", "onnx", "onnxruntime")


@dataclass(frozen=True)
class TrainReport(Report):
    """A finished training."""

    run: str
    labels: tuple[str, ...]
    images: dict[str, int]
    epochs: int
    metrics: dict[str, float]
    """Metrics of the last epoch: loss, val_loss, val_accuracy, val_macro_f1."""
    warnings: tuple[str, ...]
    """Findings of the data check that did not stop training, and a warning about a frozen backbone without weights."""
    unreadable: int = 0
    """Images that were left out because they cannot be decoded."""
    history: tuple[dict[str, float], ...] = ()
    """The metrics of every epoch."""

    def plot(self) -> Figure:
        """Return the curves of loss and validation accuracy as a matplotlib figure.

        Raises DependencyError if matplotlib is missing.
        """
        from .plots import draw_history

        return draw_history(self.history)

    def __str__(self) -> str:
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        images = ", ".join(f"{count} {split}" for split, count in self.images.items())
        images += f"; {self.unreadable} left out, which cannot be decoded" if self.unreadable else ""
        return f"{self.run}: {len(self.labels)} labels, {images}\nlast of {self.epochs} epochs: {metrics}"


def train(
    data: str | Path | Dataset,
    output: str | Path,
    options: TrainOptions | None = None,
    overwrite: bool = False,
    checked: CheckReport | None = None,
    **keywords: Any,
) -> TrainReport:
    """Check a data set, fine-tune a backbone on it and write a run.

    checked: the report of check() on the same data, image size and resize mode, so that it is not checked again.  The same
    seed, data and versions give the same weights.  Raises DataError if the data is not fit for training, OptionError,
    WeightsError, and OutputError if ``output`` exists.
    """
    options = merged(TrainOptions, options, keywords)
    claim_output(output, overwrite, RUN_FILE)
    data = load_dataset(data, options.split, options.download)
    dataset, report = check_for_training(data, options.skip_unreadable, options.image_size, options.resize, checked)
    found = [str(finding) for finding in report.findings]
    for line in found if checked is None else ():
        say(line)
    from safetensors.torch import save

    from .weights import find_weights

    weights = find_weights(options.backbone, options.weights, options.download)
    if weights is None and options.finetune == "head":
        found.append(FROZEN)
        say(FROZEN)
    # The folder is made first: one that cannot be written is not found after hours of training.
    with new_folder(output, overwrite, RUN_FILE) as folder:
        with _seeded(options.seed):
            network, spec = _start(options, dataset, weights)
            rows, features = _fit(network, dataset, spec, options)
        work = Path(folder)
        tensors = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
        (work / WEIGHTS_FILE).write_bytes(save(tensors))
        of_data = {**data_facts(dataset, work), "findings": found, "unreadable": len(report.unreadable)}
        facts = _facts(options, network, spec, weights, of_data, dataset.labels, rows[-1])
        (work / RUN_FILE).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        _write_metrics(work / METRICS_FILE, rows)
        report_training(work, str(output), network, spec, dataset, features, rows, facts)
    last = {name: value for name, value in rows[-1].items() if name != "epoch"}
    unreadable = len(report.unreadable)
    return TrainReport(
        str(output), dataset.labels, dataset.counts(), len(rows), last, tuple(found), unreadable, tuple(rows)
    )


def _start(options: TrainOptions, dataset: Dataset, weights: Weights | None) -> tuple[ImageClassifier, Preprocessing]:
    """Return the network to train, once exported as a trial, and its preprocessing."""
    from .backbones import create
    from .dry_run import check_export
    from .head import keep_head

    network = create(options.backbone, len(dataset.labels), weights, options.normalization)
    if options.keep_head and weights is not None:
        say(keep_head(network, weights, dataset.labels))
    spec = preprocessing_of(network, options)
    check_export(network, spec)
    return network, spec


def _facts(
    options: TrainOptions,
    network: ImageClassifier,
    spec: Preprocessing,
    weights: Weights | None,
    of_data: dict[str, Any],
    labels: Sequence[str],
    last: dict[str, float],
) -> dict[str, Any]:
    """Return the content of run.json; last: the metrics of the last epoch."""
    return {
        "format": RUN_FORMAT,
        "format_version": RUN_FORMAT_VERSION,
        "labels": list(labels),
        "preprocessing": spec._asdict(),
        # Part of the network.
        "normalization": {"mean": list(network.mean), "std": list(network.std)},
        # A folder's name would mean nothing on another machine.
        "options": {**asdict(options), "backbone": network.backbone.pretrained_cfg["architecture"]},
        "weights": None if weights is None else weights.facts(),
        "data": of_data,
        # JSON has no NaN.
        "metrics": {name: value if math.isfinite(value) else None for name, value in last.items()},
        "versions": versions(),
    }


def versions(libraries: Sequence[str] = _VERSIONED) -> dict[str, str]:
    """Return the versions of the libraries that the weights and model files depend on."""
    modules = {name: importlib.import_module(name).__version__ for name in libraries}
    return {"python": platform.python_version(), "edgeclf": __version__, **modules}


def preprocessing_of(network: ImageClassifier, options: TrainOptions) -> Preprocessing:
    """Return the preprocessing for the options; OptionError if the network cannot take images of that size."""
    import torch

    size = options.image_size or network.backbone.pretrained_cfg["input_size"][-1]
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, size, size, 3))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise OptionError(
            f"{options.backbone} cannot take images of {size} x {size} ({str(error).splitlines()[0]}); "
            f"choose another --image-size, say {network.backbone.pretrained_cfg['input_size'][-1]}"
        ) from None
    return Preprocessing(size, size, resize=options.resize).check()


def _fit(
    network: ImageClassifier, dataset: Dataset, spec: Preprocessing, options: TrainOptions
) -> tuple[list[dict[str, float]], Features | None]:
    """Train; returns the metrics of each epoch, and the features of train and val if the backbone stayed as it was."""
    from .loop import fit_head, fit_network

    parts = {split: dataset.split(split) for split in ("train", "val")}
    targets = {split: np.array([dataset.index(sample) for sample in part]) for split, part in parts.items()}
    rows: list[dict[str, float]] = []
    features: Features | None = None
    # Random features shrink from layer to layer until batch norm has learned; a head trained on them would have huge
    # weights, from which training all layers does not recover.
    if options.finetune == "head" or options.weights != "none":
        features = {
            split: extract_features(network, part, spec, f"features of {split}") for split, part in parts.items()
        }
        epochs = options.passes if options.finetune == "head" else EPOCHS["head"]
        rows = fit_head(
            network.head, features, targets, epochs, options.batch_size, options.learning_rate, options.keep_head
        )
    if options.finetune == "full":
        features = None
        before, start = rows, copy.deepcopy(network.state_dict()) if rows else None
        paths = {split: [sample.path for sample in part] for split, part in parts.items()}
        rows = fit_network(
            network, paths, targets, spec, options.passes, options.batch_size, options.learning_rate, options
        )
        if start and rows[-1]["val_accuracy"] < before[-1]["val_accuracy"]:
            say(
                f"all layers end with a val accuracy of {rows[-1]['val_accuracy']:.4f}, the head alone with "
                f"{before[-1]['val_accuracy']:.4f}: the network with the trained head is kept; try a smaller --learning-rate"
            )
            network.load_state_dict(start)
            rows.append({**before[-1], "epoch": len(rows)})
    return rows, features


def _write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Make the block reproducible and Lightning quiet, and restore the settings and random states of the process."""
    import torch
    from lightning import seed_everything

    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    environment = {name: os.environ.get(name) for name in _ENVIRONMENT}
    python, numpy = random.getstate(), np.random.get_state()
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(range(torch.cuda.device_count())), warnings.catch_warnings():
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            warnings.filterwarnings("ignore", module="lightning")
            seed_everything(seed, verbose=False)
            torch.use_deterministic_algorithms(True, warn_only=True)
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.backends.cudnn.benchmark = benchmark
            random.setstate(python)
            np.random.set_state(numpy)
            for name, value in environment.items():
                os.environ.pop(name, None)
                os.environ.update({} if value is None else {name: value})
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
