"""A network in training, as Lightning's module: one row of metrics per epoch, and the weights of the best one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import lightning
import numpy as np
import torch
import torchmetrics
from timm.utils import ModelEmaV3
from torch import nn

from ...display.progress import say
from ...errors import ModelError
from ...options import TrainOptions
from ..machine.failures import not_the_rate
from ..machine.precision import FULL
from ..weights.checkpoint import separate_tensors
from .attack import attacked
from .checkpoints import write_state
from .loaders import epoch_seed
from .logs import MOST_IMAGES, Norms
from .loss import NO_TARGET, Objective
from .optimizer import make_optimizer
from .schedule import make_schedule

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler

    from .checkpoints import State

Row = dict[str, float]
ATTACKED = "val_attacked_accuracy"
"""Of a row: the accuracy on attacked validation images, of adversarial training."""
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class DivergedError(ModelError):
    """A loss that is not finite; resuming from a checkpoint would lead to it again."""


@dataclass(frozen=True)
class Plan:
    """The plan of a fit."""

    options: TrainOptions
    classes: int
    epochs: int
    steps: int
    """Of an epoch."""
    rate: float
    rate_decay: float = 1.0
    weights: np.ndarray | None = None
    """Of the labels, in the loss."""
    before: tuple[Row, ...] = ()
    """Rows of what was trained before, with which the fit competes."""
    stages: Callable[[nn.Module], Sequence[Sequence[nn.Parameter]]] = field(
        default=lambda network: [list(network.parameters())]
    )
    """Parameters by stage, from the input to the head."""
    thaw: Callable[[nn.Module, int], None] | None = None
    """Called before each epoch with its number, to freeze and unfreeze stages; None: all are trained."""
    watched: Callable[[nn.Module], dict[str, nn.Module]] = field(default=lambda network: {})
    """Modules by stage whose activations are logged."""
    name: str = "head"
    """Of the checkpoint."""
    deadline: float | None = None
    """Of time.monotonic(), after which no epoch begins."""
    taught: np.ndarray | None = None
    """A teacher's logits of the training images, float [images, classes]."""
    precision: str = FULL
    val_images: int = 0
    """Validation images with a label; the fewer, the less their accuracy says about an epoch."""


def best_of(rows: Sequence[Row], images: int) -> Row:
    """Return the row of the best epoch, for a number of validation images.

    Of the epochs whose accuracy is at most one standard error below the highest so far, it is the one with the lowest loss: a few
    hundred images cannot tell such accuracies apart, and the loss, in which each image counts by degrees, is the better guide
    (the one-standard-error rule: Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3).  Adversarial
    training is for attacked images, so the highest accuracy on those counts (Rice et al. 2020, "Overfitting in adversarially
    robust deep learning").
    """
    best, highest = rows[0], 0.0
    for row in rows:
        attacked_too = ATTACKED in row
        accuracy, before = (one.get(ATTACKED, one["val_accuracy"]) for one in (row, best))
        highest = max(highest, accuracy)
        error = 0.0 if attacked_too or not images else math.sqrt(highest * (1 - highest) / images)
        lower = row["val_loss"] < best["val_loss"]
        if accuracy >= highest - error and (lower or before < highest - error):
            best = row
    return best


class Fit(lightning.LightningModule):
    """Trains a network by a plan."""

    def __init__(
        self, network: nn.Module, plan: Plan, advance: Callable[[], None], checkpoint: Path | None = None
    ) -> None:
        super().__init__()
        options, classes = plan.options, plan.classes
        self.network, self.plan, self.advance, self.checkpoint = network, plan, advance, checkpoint
        self.objective = Objective(options, classes, plan.weights, plan.taught)
        self.average = ModelEmaV3(network, options.ema, use_warmup=True) if options.ema else None
        if self.average is not None:
            self.average.requires_grad_(False)
        self.loss = torchmetrics.MeanMetric()
        self.val_loss = torchmetrics.MeanMetric()
        self.val_accuracy = torchmetrics.Accuracy("multiclass", num_classes=classes, ignore_index=NO_TARGET)
        self.val_macro_f1 = torchmetrics.F1Score(
            "multiclass", num_classes=classes, average="macro", ignore_index=NO_TARGET
        )
        self.val_attacked = torchmetrics.Accuracy("multiclass", num_classes=classes, ignore_index=NO_TARGET)
        self.rows: list[Row] = list(plan.before)
        self.best: dict[str, torch.Tensor] = separate_tensors(self.evaluated) if plan.before else {}
        self.taken = 0
        self.norms: Norms | None = None
        self.loggers_used: list[Logger] = []
        self.wrong: list[tuple[int, int]] = []
        """Index and predicted label of some validation images of the best epoch that were not recognized."""
        self._wrong_now: list[tuple[int, int]] = []
        self._val_cause = ""
        self._restored: State | None = None

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: the average, if there is one."""
        return self.network if self.average is None else self.average.module

    @property
    def epoch(self) -> int:
        """The number of the epoch under way, among those of the plan."""
        return len(self.rows) - len(self.plan.before)

    @property
    def best_row(self) -> Row:
        """The row of the best epoch; see best_of()."""
        return best_of(self.rows, self.plan.val_images)

    @property
    def finished(self) -> bool:
        """True if all epochs are done, or too many passed without a better one."""
        patience = self.plan.options.patience
        waited = len(self.rows) - 1 - int(self.best_row["epoch"]) if self.rows else 0
        return self.epoch >= self.plan.epochs or (patience is not None and self.epoch > 0 and waited >= patience)

    def on_train_batch_start(self, batch: Batch, number: int) -> None:
        if number:
            return
        torch.manual_seed(epoch_seed(self.plan.options.seed, len(self.rows), 1 + self.global_rank))
        if self.norms is not None:
            self.norms.start()
        # Lightning keeps the network's mode, and in evaluation mode batch norm would not be trained.
        self.network.train()
        if self.plan.thaw is not None:
            self.plan.thaw(self.network, self.epoch)

    def training_step(self, batch: Batch, number: int) -> torch.Tensor:
        inputs, targets, indices = batch
        # Pixels come from the worker processes as uint8, a quarter of the shared memory.
        loss: torch.Tensor = self.objective(self.network, inputs.float(), targets, indices)
        if not torch.isfinite(loss):
            self._refuse_loss(loss.item(), number, inputs.float())
        self.loss.update(loss.detach())
        self.advance()
        return loss

    def _refuse_loss(self, loss: float, number: int, inputs: torch.Tensor) -> NoReturn:
        """Raise DivergedError with the cause of a training loss that is not finite."""
        where = f"the loss is {loss} in batch {number + 1} of epoch {len(self.rows)}"
        cause = not_the_rate(self.network, inputs, self.taken, self.plan.precision)
        if cause:
            raise DivergedError(f"{where}; {cause}")
        rate = self.trainer.optimizers[0].param_groups[-1]["lr"]
        raise DivergedError(
            f"{where}, at a learning rate of {rate:.1e} (peak {self.plan.rate:.1e}); use a smaller --learning-rate, "
            f"say {self.plan.rate / 10:.0e}"
        )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.norms is not None:
            self.norms.gradient()

    def on_train_batch_end(self, outputs: STEP_OUTPUT, batch: Batch, number: int) -> None:
        self.taken += 1
        if self.average is not None:
            self.average.update(self.network, self.taken)

    def validation_step(self, batch: Batch, _: int) -> None:
        inputs, targets, indices = batch
        logits = self.evaluated(inputs.float()).float()
        counted = int((targets != NO_TARGET).sum())
        if counted:
            loss = nn.functional.cross_entropy(logits, targets, ignore_index=NO_TARGET)
            if not self._val_cause and not torch.isfinite(loss):
                self._val_cause = not_the_rate(self.evaluated, inputs.float(), self.taken, self.plan.precision)
            self.val_loss.update(loss, weight=counted)
            self.val_accuracy.update(logits, targets)
            self.val_macro_f1.update(logits, targets)
            if self.plan.options.adversarial:
                self.val_attacked.update(self._logits_attacked(inputs.float(), targets), targets)
        if self.trainer.loggers and len(self._wrong_now) < MOST_IMAGES:
            found = logits.argmax(1)
            wrong = (found != targets) & (targets != NO_TARGET)
            self._wrong_now += zip(indices[wrong].tolist(), found[wrong].tolist(), strict=True)

    def _logits_attacked(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the logits of the images after one step of the largest change, which needs no random numbers."""

        def loss_of(changed: torch.Tensor) -> torch.Tensor:
            logits = self.evaluated(changed).float()
            return nn.functional.cross_entropy(logits, targets, ignore_index=NO_TARGET, reduction="sum")

        eps = self.plan.options.adversarial
        logits: torch.Tensor = self.evaluated(attacked(loss_of, images, eps, images, eps)).float()
        return logits

    def on_train_epoch_end(self) -> None:
        row: Row = {"epoch": len(self.rows)}
        metrics = {name: getattr(self, name) for name in ("loss", "val_loss", "val_accuracy", "val_macro_f1")}
        if self.plan.options.adversarial:
            metrics[ATTACKED] = self.val_attacked
        for name, metric in metrics.items():
            row[name] = round(float(metric.compute()), 6)
            metric.reset()
        if not math.isfinite(row["val_loss"]):
            raise DivergedError(
                f"the validation loss is {row['val_loss']} after epoch {len(self.rows)}; "
                + (self._val_cause or f"use a smaller --learning-rate, say {self.plan.rate / 10:.0e}")
            )
        self.rows.append(row)
        if self.best_row is row:
            self.best, self.wrong = separate_tensors(self.evaluated), self._wrong_now[:MOST_IMAGES]
        self._wrong_now = []
        say(
            "epoch {epoch:.0f}: loss {loss:.4f}  val loss {val_loss:.4f}  val accuracy {val_accuracy:.4f}".format(**row)
        )
        self._log(row)
        late = self.plan.deadline is not None and time.monotonic() > self.plan.deadline
        if late and not self.finished:
            say("the time is over")
        stop = self.trainer.strategy.reduce_boolean_decision(self.finished or late, all=False)
        self.trainer.should_stop = stop
        due = stop or self.epoch % self.plan.options.checkpoint_every == 0
        if due and self.checkpoint is not None and self.trainer.is_global_zero:
            write_state(self.checkpoint, self.state())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        plan = self.plan
        optimizer = make_optimizer(plan.stages(self.network), plan.options, plan.rate, plan.rate_decay)
        schedule = make_schedule(optimizer, plan.options, plan.epochs, plan.steps)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _log(self, row: Row) -> None:
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        values = {name: value for name, value in row.items() if name != "epoch"}
        for logger in self.trainer.loggers:
            norms = {} if self.norms is None else self.norms.values
            logger.log_metrics({**values, "learning_rate": rate, **norms}, step=int(row["epoch"]))
            logger.save()

    # Checkpoints

    def state(self) -> State:
        """Return everything that is needed to resume after this epoch, for torch.save."""
        schedules = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        return {
            "rows": self.rows,
            "best": self.best,
            "wrong": self.wrong,
            "taken": self.taken,
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "schedule": [one.state_dict() for one in schedules],
            "precision": self.trainer.strategy.precision_plugin.state_dict(),
        }

    def restore(self, state: State) -> None:
        """Go on from a state; what belongs to the optimizer follows when training starts."""
        self.rows, self.best, self.taken = state["rows"], state["best"], state["taken"]
        self.wrong = [(index, label) for index, label in state["wrong"]]
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            assert state["average"] is not None
            self.average.load_state_dict(state["average"])
        self._restored = state

    def on_train_start(self) -> None:
        if self._restored is None:
            return
        self.trainer.optimizers[0].load_state_dict(self._restored["optimizer"])
        for config, state in zip(self.trainer.lr_scheduler_configs, self._restored["schedule"], strict=True):
            config.scheduler.load_state_dict(state)
        self.trainer.strategy.precision_plugin.load_state_dict(self._restored["precision"])
        self._restored = None
