"""Short trials before training, on a copy of the network.

They decide a learning rate, a batch size, a precision, and how many epochs a time allows.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from edgeclf_runtime.device.machine import memory_bytes

from ...display.progress import say, track
from ...errors import ModelError, OptionError
from ..machine.failures import not_the_rate
from ..machine.precision import FULL, MEASURED, computing, mixed
from .fit import Plan
from .loaders import Batches
from .loss import Objective
from .optimizer import make_optimizer

_SLOWEST, _FASTEST, _RATES = 1e-6, 1.0, 60
_SMOOTHING = 0.8
_WORST = 4.0
_WARM_UP, _TIMED = 1, 4
_EVIDENTLY = 0.95
_USABLE = 0.8
"""Share of the time that is planned; the rest is for what takes longer than in the trial."""
_MOST_IMAGES = 256
_USABLE_MEMORY = 0.4


class _Copy:
    """A copy of a network that can be trained and thrown away."""

    def __init__(self, network: nn.Module, plan: Plan, loader: Batches, device: torch.device) -> None:
        self.network = copy.deepcopy(network).to(device).train()
        self.plan, self.device = plan, device
        self.objective = Objective(plan.options, plan.classes, plan.weights, plan.taught).to(device)
        self.optimizer = make_optimizer(plan.stages(self.network), plan.options, plan.rate, plan.rate_decay)
        self.batches = self._forever(loader)

    def _forever(self, loader: Batches) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        for _ in itertools.count():
            for inputs, targets, indices in loader:
                yield inputs.to(self.device).float(), targets.to(self.device), indices

    def step(self, rate: float) -> float:
        """Take a step at a rate and return the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = next(self.batches)
        with computing(self.plan.precision, self.device):
            loss = self.objective(self.network, *batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def find_rate(network: nn.Module, plan: Plan, loader: Batches, device: torch.device) -> float:
    """Return the rate at which the loss falls fastest in a sweep from small to large (Smith 2017)."""
    trial, smooth = _Copy(network, plan, loader, device), 0.0
    losses: list[float] = []
    rates = np.geomspace(_SLOWEST, _FASTEST, _RATES)
    for number, rate in enumerate(track(rates, "finding the rate", len(rates)), 1):
        loss = trial.step(float(rate))
        smooth = _SMOOTHING * smooth + (1 - _SMOOTHING) * loss
        unbiased = smooth / (1 - _SMOOTHING**number)
        if number == 1 and not math.isfinite(loss):
            inputs = next(trial.batches)[0]
            cause = not_the_rate(copy.deepcopy(network).to(device), inputs, 0, plan.precision)
            raise ModelError(f"the loss is {loss} before the first step; {cause}")
        if not math.isfinite(loss) or (losses and unbiased > _WORST * min(losses)):
            break
        losses.append(unbiased)
    if len(losses) < 10:
        raise OptionError(
            "the sweep found no rate at which the loss falls; give a --learning-rate instead of --find-rate"
        )
    # Not behind the lowest loss, from where it only rises.
    lowest = max(3, int(np.argmin(losses)))
    found = float(f"{rates[int(np.argmin(np.gradient(losses[: lowest + 1])))]:.1e}")
    say(f"learning rate: {found:.1e}, at which the loss fell fastest in a sweep of {len(losses)} steps")
    return found


def fastest_precision(network: nn.Module, plan: Plan, loader: Batches, device: torch.device) -> str:
    """Return the precision whose steps take less time; float32 unless the other is evidently faster."""
    names = (FULL, mixed(device))
    trials = [_Copy(network, replace(plan, precision=name), loader, device) for name in names]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in track(range(_WARM_UP + _TIMED), "measuring float32 and 16 bits", _WARM_UP + _TIMED):
        for name, trial in zip(names, trials, strict=True):
            start = time.monotonic()
            trial.step(0.0)
            seconds[name].append(time.monotonic() - start)
    full, half = (float(np.median(seconds[name][_WARM_UP:])) for name in names)
    found = names[1] if half < _EVIDENTLY * full else FULL
    say(f"precision: {found}; a step takes {full:.2f} s in float32, {half:.2f} s mixed")
    return found


def plan_epochs(
    network: nn.Module, plan: Plan, loaders: Mapping[str, Batches], device: torch.device, left_s: float
) -> int:
    """Return the epochs that fit into a time, at most those of the plan; OptionError if not even one does."""
    trial = _Copy(network, plan, loaders["train"], device)
    seconds = []
    for _ in range(_WARM_UP + _TIMED):
        start = time.monotonic()
        trial.step(0.0)
        seconds.append(time.monotonic() - start)
    step_s = float(np.mean(seconds[_WARM_UP:]))
    # Without the way back, a batch takes about a third.
    epoch_s = step_s * (plan.steps + len(loaders["val"]) / 3)
    usable_s = _USABLE * left_s - sum(seconds)
    count = min(plan.epochs, int(usable_s / epoch_s))
    minutes = plan.options.minutes or 0.0
    if count < 1:
        needed = minutes + (epoch_s - usable_s) / _USABLE / 60
        raise OptionError(
            f"minutes is {minutes:g}, but one epoch takes about {max(1, epoch_s):.0f} s here; {needed:.2f} or more was "
            "expected, or a smaller --image-size"
        )
    if count < plan.epochs:
        say(f"{count} of {plan.epochs} epochs fit into {minutes:g} minutes, at {epoch_s:.1f} s each")
    return count


def fitting_batch(network: nn.Module, height: int, width: int, images: int, device: torch.device) -> int:
    """Return the largest power of two, at most 256 and a quarter of the images, for which memory is sure to suffice.

    What a step keeps for its way back is counted for two images, in float32.
    """
    trial = copy.deepcopy(network).to(device).train()
    own = {parameter.data_ptr() for parameter in trial.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trial(torch.zeros(2, height, width, 3, device=device))
    free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else (memory_bytes() or (0, 8 << 30))[1]
    most = min(_MOST_IMAGES, max(2, images // 4), max(2, _USABLE_MEMORY * free / max(1, sum(kept.values()) / 2)))
    size = 2 ** int(math.log2(most))
    say(f"batch size: {size}")
    return size


def decided(
    network: nn.Module,
    plan: Plan,
    loaders: Mapping[str, Batches],
    device: torch.device,
    left_s: float | None,
) -> Plan:
    """Return a plan with the precision, the rate and the epochs that trials decide, if the options ask for them."""
    if plan.precision == MEASURED:
        plan = replace(plan, precision=fastest_precision(network, plan, loaders["train"], device))
    if plan.options.find_rate:
        plan = replace(plan, rate=find_rate(network, plan, loaders["train"], device))
    if left_s is not None:
        plan = replace(plan, epochs=plan_epochs(network, plan, loaders, device, left_s))
    return plan
