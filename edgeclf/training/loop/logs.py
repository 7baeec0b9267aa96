"""Writes metrics to TensorBoard, MLflow or Weights & Biases by Lightning's loggers; nothing leaves this machine unasked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from ...errors import DependencyError
from ..unfinished import Unfinished

if TYPE_CHECKING:
    import numpy as np
    from lightning.pytorch.loggers import Logger

    class Writer(Protocol):
        """TensorBoard's SummaryWriter: the methods that are used."""

        def add_image(self, tag: str, image: np.ndarray, *, dataformats: str) -> None: ...

        def add_text(self, tag: str, text: str) -> None: ...

        def flush(self) -> None: ...


_INSTALL = 'install it: python3 -m pip install "edgeclf[{}]"'
MOST_IMAGES = 16
"""Wrong images that are shown."""


def open_loggers(names: Sequence[str], unfinished: Unfinished, settings: dict[str, object]) -> list[Logger]:
    """Return the loggers, which write to RUN.logs/; MLflow to MLFLOW_TRACKING_URI, if that is set.

    settings: what is recorded of the training.  Raises DependencyError if a library is missing.
    """
    found = []
    for name in names:
        try:
            logger = _OPENERS[name](unfinished)
        except (ImportError, ModuleNotFoundError):
            raise DependencyError(f"--log {name} needs the library {name}; {_INSTALL.format(name)}") from None
        logger.log_hyperparams(settings)
        found.append(logger)
    return found


def _tensorboard(unfinished: Unfinished) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    # A resumed training adds to the folder in which it started.
    start = unfinished.decide("log", lambda: time.strftime("%Y-%m-%dT%H-%M-%S"))
    return TensorBoardLogger(unfinished.logs, name="tensorboard", version=start)


def _mlflow(unfinished: Unfinished) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    # MLflow's own telemetry.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    unfinished.logs.mkdir(parents=True, exist_ok=True)
    store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{unfinished.logs / 'mlflow.db'}"
    name = unfinished.logs.name.removesuffix(".logs")
    # A resumed training logs to the run in which it started.
    logger = MLFlowLogger("edgeclf", name, store, run_id=unfinished.noted("mlflow_run"))
    unfinished.note("mlflow_run", logger.run_id)
    return logger


def _wandb(unfinished: Unfinished) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    # Online only if the user says so.
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    unfinished.logs.mkdir(parents=True, exist_ok=True)
    return WandbLogger(project="edgeclf", save_dir=unfinished.logs, offline=os.environ["WANDB_MODE"] == "offline")


_OPENERS: dict[str, Callable[[Unfinished], Logger]] = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


class Norms:
    """Norms of the gradient and of each stage's activations, of the first batch of an epoch."""

    def __init__(self, network: nn.Module, modules: dict[str, nn.Module]) -> None:
        self.network = network
        self.values: dict[str, float] = {}
        self._wanted = False
        for name, module in modules.items():
            module.register_forward_hook(self._hook(f"activation_norm/{name}"))

    def start(self) -> None:
        """Measure the next batch."""
        self._wanted = True

    def gradient(self) -> None:
        """Measure the gradient, before it is clipped."""
        if self._wanted:
            gradients = [one.grad for one in self.network.parameters() if one.grad is not None]
            self.values["gradient_norm"] = float(nn.utils.get_total_norm(gradients))
            self._wanted = False

    def _hook(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def measure(module: nn.Module, _: object, output: object) -> None:
            if self._wanted and module.training and isinstance(output, torch.Tensor):
                self.values[name] = float(output.detach().float().square().mean().sqrt())

        return measure


def log_wrong_images(
    loggers: Sequence[Logger],
    wrong: Sequence[tuple[int, int]],
    paths: Sequence[Path],
    read: Callable[[Path], np.ndarray],
) -> None:
    """Show validation images whose label was not found, in TensorBoard.

    wrong: index of each image and the label that was predicted.  read: returns uint8 [height, width, 3].
    """
    for logger in loggers:
        writer: Writer | None = getattr(logger, "experiment", None)
        if writer is not None and hasattr(writer, "add_image"):
            for number, (index, _) in enumerate(wrong[:MOST_IMAGES]):
                writer.add_image(f"wrong/{number}", read(paths[index]), dataformats="HWC")
                writer.add_text(f"wrong/{number}", str(paths[index]))
            writer.flush()
