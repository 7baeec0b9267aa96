"""Training loop, by Lightning: a head on cached features, or a whole network on images."""

from __future__ import annotations

import math
import multiprocessing.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import lightning
import numpy as np
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from edgeclf_runtime.images.preprocess import Preprocessing

from ..data.pixels import load_pixels
from ..display.progress import progress, say
from ..errors import ImageError, ModelError
from ..options import AugmentationOptions
from .augmentation import Augmentation, augmentation
from .backbones import ImageClassifier

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

_SMALLEST_SCALE = 2.0
_FEWEST_STEPS = 10
# Two workers prepare two batches each, and one is in use.
_BATCHES_AT_ONCE = 5
# A socket's path has at most 107 bytes, and "/pymp-12345678/listener-12345678" and more is appended.
_LONGEST_TEMPORARY = 60
Rows = list[dict[str, float]]


class Fit(lightning.LightningModule):
    """Cross-entropy, AdamW and a one-cycle schedule; collects one row of metrics per epoch."""

    def __init__(
        self, network: nn.Module, classes: int, learning_rate: float, steps: int, advance: Callable[[], None]
    ) -> None:
        super().__init__()
        self.network = network
        self.learning_rate, self.steps, self.advance = learning_rate, steps, advance
        self.loss = torchmetrics.MeanMetric()
        self.val_loss = torchmetrics.MeanMetric()
        self.val_accuracy = torchmetrics.Accuracy("multiclass", num_classes=classes)
        self.val_macro_f1 = torchmetrics.F1Score("multiclass", num_classes=classes, average="macro")
        self.rows: Rows = []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], number: int) -> torch.Tensor:
        inputs, targets = batch
        # Pixels come from the worker processes as uint8, a quarter of the shared memory.
        loss = nn.functional.cross_entropy(self.network(inputs.float()), targets)
        if not torch.isfinite(loss):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise ModelError(
                f"the loss is {float(loss)} in batch {number + 1} of epoch {len(self.rows)}, at a learning rate of {rate:.1e} "
                f"(peak {self.learning_rate:.1e}); use a smaller --learning-rate, say {self.learning_rate / 10:.0e}"
            )
        self.loss.update(loss.detach())
        self.advance()
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        inputs, targets = batch
        logits = self.network(inputs.float())
        self.val_loss.update(nn.functional.cross_entropy(logits, targets), weight=len(targets))
        self.val_accuracy.update(logits, targets)
        self.val_macro_f1.update(logits, targets)

    def on_train_epoch_end(self) -> None:
        row: dict[str, float] = {"epoch": len(self.rows)}
        for name in ("loss", "val_loss", "val_accuracy", "val_macro_f1"):
            metric = getattr(self, name)
            row[name] = round(float(metric.compute()), 6)
            metric.reset()
        if not math.isfinite(row["val_loss"]):
            raise ModelError(
                f"the validation loss is {row['val_loss']} after epoch {len(self.rows)}; use a smaller --learning-rate, "
                f"say {self.learning_rate / 10:.0e}"
            )
        self.rows.append(row)
        say(
            "epoch {epoch:.0f}: loss {loss:.4f}  val loss {val_loss:.4f}  val accuracy {val_accuracy:.4f}".format(**row)
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=self.learning_rate)
        if self.steps < _FEWEST_STEPS:
            return optimizer  # one cycle would spend most of them at a rate near 0
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit_head(
    head: nn.Linear,
    features: dict[str, np.ndarray],
    targets: dict[str, np.ndarray],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    keep: bool = False,
) -> Rows:
    """Train a linear head on features, in place; returns one row of metrics per epoch.

    features, targets: by split, float32 [images, features] and int [images].  keep: start with the head as it is, instead
    of zeros.  The features are
    standardized for training (those with a small variance less so), and the standardization is
    folded into the head at the end.
    """
    mean, scale = features["train"].mean(0), features["train"].std(0)
    # A feature that hardly varies would get a huge weight, which would amplify the noise of INT8.
    scale = np.maximum(scale, _SMALLEST_SCALE * np.median(scale) + 1e-6)
    loaders = {}
    for split, values in features.items():
        tensors = TensorDataset(torch.from_numpy((values - mean) / scale), torch.from_numpy(targets[split]))
        loaders[split] = DataLoader(tensors, batch_size, shuffle=split == "train")
    inner = nn.Linear(head.in_features, head.out_features)
    with torch.no_grad():
        inner.weight.copy_(head.weight * torch.from_numpy(scale) if keep else torch.zeros_like(head.weight))
        inner.bias.copy_(head.bias + head.weight @ torch.from_numpy(mean) if keep else torch.zeros_like(head.bias))
    rows = _fit("training the head", inner, head.out_features, loaders, epochs, learning_rate, accelerator="cpu")
    with torch.no_grad():
        weight = inner.weight / torch.from_numpy(scale)
        head.weight.copy_(weight)
        head.bias.copy_(inner.bias - weight @ torch.from_numpy(mean))
    return rows


def fit_network(
    network: ImageClassifier,
    paths: dict[str, list[Path]],
    targets: dict[str, np.ndarray],
    spec: Preprocessing,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    augment: AugmentationOptions,
) -> Rows:
    """Train every layer on images, by split, in place; returns one row of metrics per epoch."""
    # Lightning keeps the network's mode, and in evaluation mode batch norm would not be trained.
    network.train().requires_grad_(True)
    network.normalize.requires_grad_(False)
    workers = 2 if _workers_can_meet() and _fits_shared_memory(batch_size * spec.height * spec.width * 3) else 0
    loaders = {
        split: DataLoader(
            Images(
                paths[split], targets[split], spec, augmentation(augment, spec.height) if split == "train" else None
            ),
            batch_size,
            shuffle=split == "train",
            drop_last=split == "train" and len(paths[split]) > batch_size,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for split in paths
    }
    rows = _fit(
        "training all layers",
        network.to(memory_format=torch.channels_last),
        network.head.out_features,
        loaders,
        epochs,
        learning_rate,
        accelerator="auto",
    )
    network.cpu().eval()
    return rows


def _workers_can_meet() -> bool:
    """Return whether worker processes can open their sockets; uses /tmp if the path of the temporary folder is long.

    If the path of its socket is too long, a worker hangs, and so does its parent.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_TEMPORARY:
        return True
    usual, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        return len(os.fsencode(multiprocessing.util.get_temp_dir())) <= _LONGEST_TEMPORARY
    except OSError:
        return False
    finally:
        tempfile.tempdir = usual


def _fits_shared_memory(batch_bytes: int) -> bool:
    """Return whether /dev/shm, in a container often 64 MB, has room for the batches that the workers prepare."""
    try:
        return shutil.disk_usage("/dev/shm").free > _BATCHES_AT_ONCE * batch_bytes
    except OSError:
        return True


class Images(TorchDataset):
    """Preprocessed images, as uint8 [height, width, 3], augmented if a transform is given."""

    def __init__(
        self, paths: list[Path], targets: np.ndarray, spec: Preprocessing, transform: Augmentation | None = None
    ) -> None:
        self.paths, self.targets, self.spec, self.transform = paths, targets, spec, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = torch.from_numpy(load_pixels(self.paths[index], self.spec))
        if self.transform is not None:
            pixels = self.transform(pixels.permute(2, 0, 1)).permute(1, 2, 0)
        return pixels, int(self.targets[index])


def _fit(
    what: str,
    network: nn.Module,
    classes: int,
    loaders: dict[str, DataLoader],
    epochs: int,
    learning_rate: float,
    accelerator: str,
) -> Rows:
    steps = epochs * len(loaders["train"])
    with progress(what, steps) as advance:
        module = Fit(network, classes, learning_rate, steps, advance)
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            deterministic="warn",
        )
        try:
            trainer.fit(module, loaders["train"], loaders["val"])
        except SystemExit as error:
            # Lightning ends the process on Ctrl-C; that is for the caller to decide.
            raise KeyboardInterrupt from error
        except ImageError as error:
            # A worker process sends its traceback as the message; the error is its last line.
            raise ImageError(str(error).strip().splitlines()[-1].partition("ImageError: ")[2]) from None
    return module.rows
