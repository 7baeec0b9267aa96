"""The stages of a network, from the input to the head."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgeclf_runtime.files.schema import JsonObject

from ..display.report import Report
from ..errors import OptionError
from .machine.threads import torch_threads

if TYPE_CHECKING:
    from ..options import TrainOptions
    from .architecture import ImageClassifier

HEAD = "head"
_WARM_UP, _TIMED = 3, 15
_UNFROZEN_BY = 2 / 3
"""Share of the epochs after which gradual fine-tuning trains every stage."""


@dataclass(frozen=True)
class Stage:
    """Layers of a network that are frozen and unfrozen together."""

    name: str
    parameters: tuple[str, ...]
    """Names in the backbone."""
    modules: tuple[str, ...]
    """Names in the backbone of the modules that consist of them."""


def stages_of(network: ImageClassifier) -> list[Stage]:
    """Return a network's stages as timm groups its layers; the head is the last one."""
    backbone = network.backbone
    head = {id(parameter) for parameter in network.head.parameters()}
    names = [name for name, parameter in backbone.named_parameters() if id(parameter) not in head]
    groups = [[name for name in group if name in set(names)] for group in _groups(backbone)]
    found = [group for group in groups if group]
    last = [name for name, parameter in backbone.named_parameters() if id(parameter) in head]
    stages = [_stage(backbone, "", group) for group in found]
    return [*stages, _stage(backbone, HEAD, last)]


def _groups(backbone: nn.Module) -> list[list[str]]:
    from timm.models._manipulate import group_parameters

    try:
        groups: dict[int, list[str]] = group_parameters(backbone, backbone.group_matcher(coarse=True))  # type: ignore[operator]
        return list(groups.values())
    except (AttributeError, NotImplementedError, AssertionError):
        # A model that does not say how its layers belong together.
        return [
            [f"{name}.{inner}" for inner, _ in child.named_parameters()] for name, child in backbone.named_children()
        ]


def _stage(backbone: nn.Module, name: str, parameters: Sequence[str]) -> Stage:
    members = set(parameters)
    modules: list[str] = []
    for path, module in backbone.named_modules():
        own = [f"{path}.{inner}" if path else inner for inner, _ in module.named_parameters()]
        inside = any(path.startswith(f"{other}.") for other in modules)
        if own and not inside and set(own) <= members:
            modules.append(path)
    return Stage(name or ", ".join(modules) or parameters[0], tuple(parameters), tuple(modules))


def stage_parameters(network: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of each stage of an ImageClassifier."""
    backbone: nn.Module = network.backbone  # type: ignore[assignment]
    return [[backbone.get_parameter(name) for name in stage.parameters] for stage in stages_of(network)]  # type: ignore[arg-type]


def stage_modules(network: nn.Module) -> dict[str, nn.Module]:
    """Return the last module of each stage of an ImageClassifier, by the stage's name."""
    backbone: nn.Module = network.backbone  # type: ignore[assignment]
    stages = [stage for stage in stages_of(network) if stage.modules]  # type: ignore[arg-type]
    return {stage.name: backbone.get_submodule(stage.modules[-1]) for stage in stages}


def unfrozen(stages: int, epoch: int, epochs: int) -> int:
    """Return how many of the stages gradual fine-tuning trains in an epoch, counted from the head."""
    return min(stages, math.ceil(stages * (epoch + 1) / max(1.0, epochs * _UNFROZEN_BY)))


def check_freeze(network: ImageClassifier, freeze: int) -> None:
    """Raise OptionError if no stage but the head would be left to train."""
    stages = stages_of(network)
    if freeze >= len(stages) - 1:
        raise OptionError(
            f"freeze is {freeze}, but the network has {len(stages) - 1} stages before its head; at most {len(stages) - 2} was "
            "expected (edgeclf list backbones NAME --stages shows them)"
        )


def thaw(network: ImageClassifier, epoch: int, options: TrainOptions) -> None:
    """Unfreeze the stages of an epoch, and freeze the others, whose norms are in evaluation mode then."""
    stages = stages_of(network)
    trained = unfrozen(len(stages), epoch, options.passes) if options.finetune == "gradual" else len(stages)
    frozen = stages[: max(options.freeze, len(stages) - trained)]
    names = {name for stage in frozen for name in stage.parameters}
    for name, parameter in network.backbone.named_parameters():
        parameter.requires_grad_(name not in names)
    for stage in frozen:
        for module in stage.modules:
            network.backbone.get_submodule(module).eval()


@dataclass(frozen=True)
class StageReport(Report):
    """The stages of a backbone, from the input to the head."""

    backbone: str
    image_size: int
    stages: tuple[JsonObject, ...]
    """Of each: name, parameters, multiply_adds of one image, latency_ms in torch on this machine or None, and whether head,
    gradual and full train it: true, false, or for gradual the share of the epochs after which it is."""

    def __str__(self) -> str:
        timed = self.stages[0]["latency_ms"] is not None
        lines = [
            f"{'stage':<22} {'parameters':>11} {'mult-adds':>10}{'     ms' if timed else ''}  head     gradual  full"
        ]
        for stage in self.stages:
            latency = f"{stage['latency_ms']:7.1f}" if timed else ""
            modes = f"{_trained(stage['head']):<8} {_trained(stage['gradual']):<8} {_trained(stage['full'])}"
            name, adds = stage["name"], stage["multiply_adds"] / 1e6
            name = name if len(name) <= 22 else f"{name[:19]}..."
            lines.append(f"{name:<22} {stage['parameters']:>11,} {adds:>8.1f} M{latency}  {modes}")
        total, adds = (sum(stage[key] for stage in self.stages) for key in ("parameters", "multiply_adds"))
        lines.append(f"{'all':<22} {total:>11,} {adds / 1e6:>8.1f} M at {self.image_size} x {self.image_size}")
        return "\n".join(lines)


def _trained(value: bool | float) -> str:
    if isinstance(value, bool):
        return "trained" if value else "frozen"
    return f"at {value:.0%}"


def list_stages(backbone: str, image_size: int | None = None, latency: bool = False) -> StageReport:
    """Return the stages of a backbone with their cost, and which strategy of fine-tuning trains them.

    latency: also measure each on this machine's CPU, in torch, which is slower than an exported file.
    """
    from .backbones import create

    network = create(backbone, 10)
    size = image_size or network.backbone.pretrained_cfg["input_size"][-1]
    stages = stages_of(network)
    with torch_threads():
        adds = _multiply_adds(network, stages, size)
        times = _latencies(network, stages, size) if latency else [None] * len(stages)
    rows = []
    for place, (stage, count, time_ms) in enumerate(zip(stages, adds, times, strict=True)):
        last = place == len(stages) - 1
        parameters = sum(network.backbone.get_parameter(name).numel() for name in stage.parameters)
        costs = {"name": stage.name, "parameters": parameters, "multiply_adds": count, "latency_ms": time_ms}
        start = max(0.0, _UNFROZEN_BY * (len(stages) - 1 - place) / len(stages))
        rows.append({**costs, "head": last, "gradual": True if last else round(start, 3), "full": True})
    return StageReport(backbone, size, tuple(rows))


def _multiply_adds(network: ImageClassifier, stages: Sequence[Stage], size: int) -> list[int]:
    root = type(network.backbone).__name__
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.backbone.eval()(torch.zeros(1, 3, size, size))
    counts = counter.get_flop_counts()
    return [sum(sum(counts.get(f"{root}.{name}", {}).values()) for name in stage.modules) // 2 for stage in stages]


def _latencies(network: ImageClassifier, stages: Sequence[Stage], size: int) -> list[float]:
    """Return each stage's median time, in milliseconds."""
    starts: dict[str, float] = {}
    spent: dict[str, float] = defaultdict(float)
    handles = []
    for name in (name for stage in stages for name in stage.modules):
        module = network.backbone.get_submodule(name)

        def begin(module: nn.Module, inputs: object, name: str = name) -> None:
            starts[name] = time.perf_counter()

        def end(module: nn.Module, inputs: object, output: object, name: str = name) -> None:
            spent[name] += time.perf_counter() - starts[name]

        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    samples = []
    with torch.no_grad():
        for number in range(_WARM_UP + _TIMED):
            spent.clear()
            network.backbone(torch.zeros(1, 3, size, size))
            if number >= _WARM_UP:
                samples.append([sum(spent[name] for name in stage.modules) * 1e3 for stage in stages])
    for handle in handles:
        handle.remove()
    return [round(float(value), 3) for value in np.median(samples, axis=0)]
