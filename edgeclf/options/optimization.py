"""Options of optimization: loss, optimizer and schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import OptionError
from .declaration import check_fields, option

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("onecycle", "cosine", "step", "constant")
LOSSES = ("cross-entropy", "focal")
DEVICES = ("auto", "cpu", "cuda")
COMPUTE = ("auto", "float32", "mixed", "fastest")
LOGS = ("tensorboard", "mlflow", "wandb")
BALANCES = ("none", "weights", "sampler")


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Loss and targets of training."""

    GROUP: ClassVar[str] = "Loss"
    loss: str = option("cross-entropy", "focal: images that are already right count less.", choices=LOSSES)
    focal_gamma: float = option(2.0, "How much less; 0 is cross-entropy.", between=(0, 10))
    label_smoothing: float = option(
        0.0, "Share of each target that is spread evenly over the labels.", between=(0, 0.9)
    )
    balance: str = option(
        "none",
        "Rare labels count as much as frequent ones; weights: in the loss; sampler: by drawing them more often.",
        choices=BALANCES,
    )
    soft_targets: str | None = option(
        None,
        "CSV file with the columns path and one probability per label; other images keep their label.",
        shown="the labels",
        metavar="FILE.csv",
        path=True,
    )
    mixup: float = option(
        0.0, "Alpha of MixUp, which blends two images and their targets; 0.2 is usual.", between=(0, 10)
    )
    cutmix: float = option(
        0.0, "Alpha of CutMix, which pastes a part of another image; 1 is usual; not for head.", between=(0, 10)
    )
    adversarial: float = option(
        0.0,
        "Train on images that are changed to mislead the network, by at most this many levels of 255; not for head.",
        metavar="EPS",
        between=(0, 64),
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class DistillationOptions:
    """A larger network to learn from."""

    GROUP: ClassVar[str] = "Distillation"
    teacher: str | None = option(
        None,
        "Run with the same labels, usually of a larger network, whose probabilities are learned too.",
        shown="none",
        metavar="RUN",
        path=True,
    )
    teacher_share: float = option(
        0.5, "Share of the loss that the teacher's probabilities have; the labels have the rest.", between=(0, 1)
    )
    teacher_temperature: float = option(
        2.0, "Temperature that divides both networks' logits; higher: unlikely labels count more.", between=(0.5, 50)
    )
    unlabeled: str | None = option(
        None,
        "Images without labels; their only target is the teacher's probabilities.",
        shown="none",
        metavar="FOLDER",
        path=True,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.unlabeled is not None and self.teacher is None:
            raise OptionError("unlabeled needs a run that knows what the images show; add --teacher RUN")


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """The optimizer, its rate and its schedule."""

    GROUP: ClassVar[str] = "Optimizer"
    optimizer: str = option("adamw", "sgd: with Nesterov momentum.", choices=OPTIMIZERS)
    learning_rate: float = option(1e-3, "Largest rate of the schedule.")
    find_rate: bool = option(False, "Find the learning rate by a short sweep before training.")
    schedule: str = option(
        "onecycle",
        "onecycle: up, then down to 0; cosine: down to 0; step: times --step-factor every --step-epochs.",
        choices=SCHEDULES,
    )
    warmup: float = option(
        0.0, "Epochs in which the rate rises from 0; not for onecycle, which has its own.", between=(0, 1000)
    )
    step_epochs: int = option(10, "Epochs between the steps of --schedule step.", between=(1, 10_000))
    step_factor: float = option(0.5, "Factor for the rate at each step.", between=(1e-6, 1))
    weight_decay: float = option(0.01, "Weight decay; biases and norms have none.", between=(0, 10))
    momentum: float = option(0.9, "Momentum of sgd.", between=(0, 0.9999))
    clip: float | None = option(
        None, "Largest norm of the gradient; longer ones are scaled down.", shown="no limit", between=(1e-6, 1e6)
    )
    ema: float | None = option(
        None,
        "Decay of a moving average of the weights, which is kept instead of them; 0.999 is usual.",
        shown="none",
        between=(0, 0.999999),
    )
    rate_decay: float | None = option(
        None,
        "Learning rate of each stage relative to the next one, toward the input.",
        shown="0.6 for gradual, 1 for full",
        between=(0.01, 1),
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.learning_rate < 1:
            raise OptionError(f"learning-rate is {self.learning_rate}; more than 0 and less than 1 was expected")
        if self.warmup and self.schedule == "onecycle":
            raise OptionError("warmup is not for onecycle, which has its own; add --schedule cosine, step or constant")


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """The device, precision, processes, checkpoints and logs of training."""

    GROUP: ClassVar[str] = "Machine"
    device: str = option("auto", "auto: a GPU if there is one.", choices=DEVICES)
    compute: str = option(
        "auto",
        "auto: mixed on a GPU, float32 on a CPU; mixed: most layers in 16 bits; fastest: the faster one, by measured steps.",
        choices=COMPUTE,
    )
    workers: int | None = option(
        None, "Processes that load images.", shown="2, or 16 at most with a GPU", between=(0, 256)
    )
    checkpoint_every: int = option(1, "Epochs between checkpoints, from which --resume continues.", between=(1, 10_000))
    log: tuple[str, ...] = option(
        (),
        "Also log to RUN.logs/; may be repeated.",
        shown="none",
        choices=LOGS,
    )

    def __post_init__(self) -> None:
        check_fields(self)
