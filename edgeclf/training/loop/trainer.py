"""Runs a fit to its end, from a checkpoint if there is one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader

from ...display.progress import progress
from .checkpoints import read_state
from .failures import explained
from .fit import Fit, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def run_fit(
    what: str,
    network: nn.Module,
    plan: Plan,
    loaders: Callable[[Fit], Mapping[str, DataLoader]],
    checkpoint: Path | None = None,
    **settings: Any,
) -> Fit:
    """Train a network in place, and leave it with the weights of the best epoch.

    loaders: makes those of train and val.  checkpoint: where to go on, if it exists, and what to write.  settings: of
    lightning.Trainer.
    """
    advance: list[Callable[[], None]] = []
    fit = Fit(network, plan, lambda: advance[0](), checkpoint)
    if checkpoint is not None and (state := read_state(checkpoint)):
        fit.restore(state)
    if not fit.finished:
        with progress(what, (plan.epochs - fit.epoch) * plan.steps) as step, explained(plan.options):
            advance.append(step)
            trainer = lightning.Trainer(
                max_epochs=plan.epochs - fit.epoch,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                gradient_clip_val=plan.options.clip,
                deterministic="warn",
                **settings,
            )
            parts = loaders(fit)
            trainer.fit(fit, parts["train"], parts["val"])
    network.cpu()
    with torch.no_grad():
        network.load_state_dict(fit.best)
    network.eval()
    return fit
