"""Runs a fit to its end, from a checkpoint if there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import lightning
import torch
from torch import nn

from ...display.progress import progress
from ..machine.distributed import leads, shared
from ..machine.failures import explained
from ..machine.memory import freed_memory_kept
from ..machine.precision import MEASURED
from ..unfinished import Unfinished
from .checkpoints import read_state
from .fit import Fit, Plan
from .loaders import Batches
from .logs import Norms, open_loggers
from .trials import decided

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy
    from lightning.pytorch.trainer.connectors.accelerator_connector import _PLUGIN_INPUT
    from typing_extensions import Unpack

Loaders = Callable[[Callable[[], int]], Mapping[str, Batches]]
"""Makes the loaders of train and val; takes a function that returns the number of the epoch."""


class Devices(TypedDict, total=False):
    """Settings of lightning.Trainer for the processes that share a training."""

    devices: int
    num_nodes: int
    strategy: Strategy
    plugins: list[_PLUGIN_INPUT]
    sync_batchnorm: bool


class _Decided(TypedDict):
    """Values of a plan that trials decide."""

    rate: float
    epochs: int
    precision: str


@freed_memory_kept()
def run_fit(
    what: str,
    network: nn.Module,
    plan: Plan,
    loaders: Loaders,
    device: torch.device,
    unfinished: Unfinished | None = None,
    **settings: Unpack[Devices],
) -> Fit:
    """Train a network in place, and leave it with the weights of the best epoch.

    unfinished: the folder to resume from and to write checkpoints to, under the plan's name.  settings: of lightning.Trainer.
    """
    advance: list[Callable[[], None]] = []
    with explained(plan.options):
        plan = _decided(network, plan, loaders, device, unfinished)
    checkpoint = None if unfinished is None else unfinished.file(f"{plan.name}.ckpt")
    fit = Fit(network, plan, lambda: advance[0](), checkpoint)
    if checkpoint is not None and (state := read_state(checkpoint)):
        fit.restore(state)
    if not fit.finished:
        with progress(what, (plan.epochs - fit.epoch) * plan.steps) as step, explained(plan.options):
            advance.append(step)
            trainer = lightning.Trainer(
                max_epochs=plan.epochs - fit.epoch,
                logger=_loggers(fit, unfinished) or False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                gradient_clip_val=plan.options.clip,
                deterministic="warn",
                precision=plan.precision,  # type: ignore[arg-type]
                # An attack on validation images needs gradients.
                inference_mode=not plan.options.adversarial,
                accelerator=device.type,
                **settings,
            )
            fit.loggers_used = list(trainer.loggers)
            parts = loaders(lambda: fit.epoch)
            trainer.fit(fit, parts["train"], parts["val"])
    network.cpu()
    with torch.no_grad():
        network.load_state_dict(fit.best)
    network.eval()
    return fit


def _decided(
    network: nn.Module, plan: Plan, loaders: Loaders, device: torch.device, unfinished: Unfinished | None
) -> Plan:
    """Return the plan with the values that trials decide; a resumed training keeps its earlier ones."""
    minutes = plan.options.minutes
    if not (plan.options.find_rate or minutes or plan.precision == MEASURED):
        return plan

    def decide() -> _Decided:
        left_s = None if minutes is None else minutes * 60 - (unfinished.elapsed_s if unfinished else 0)
        found = decided(network, plan, loaders(lambda: 0), device, left_s)
        return {"rate": found.rate, "epochs": found.epochs, "precision": found.precision}

    return replace(plan, **shared(lambda: unfinished.decide(plan.name, decide) if unfinished else decide()))


def _loggers(fit: Fit, unfinished: Unfinished | None) -> list[Logger]:
    options = fit.plan.options
    if not options.log or unfinished is None or not leads():
        return []
    fit.norms = Norms(fit.network, fit.plan.watched(fit.network))
    names = ("backbone", "finetune", "optimizer", "schedule", "batch_size", "seed")
    settings = {name: getattr(options, name) for name in names}
    return open_loggers(
        options.log, unfinished, {**settings, "learning_rate": fit.plan.rate, "epochs": fit.plan.epochs}
    )
