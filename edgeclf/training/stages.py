"""The stages of a network, from the input to the head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from .backbones import ImageClassifier

HEAD = "head"
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


def unfrozen(stages: int, epoch: int, epochs: int) -> int:
    """Return how many of the stages gradual fine-tuning trains in an epoch, counted from the head."""
    return min(stages, math.ceil(stages * (epoch + 1) / max(1.0, epochs * _UNFROZEN_BY)))


def thaw(network: ImageClassifier, epoch: int, epochs: int) -> None:
    """Unfreeze the stages of an epoch, and freeze the others, whose norms are in evaluation mode then."""
    stages = stages_of(network)
    frozen = stages[: len(stages) - unfrozen(len(stages), epoch, epochs)]
    names = {name for stage in frozen for name in stage.parameters}
    for name, parameter in network.backbone.named_parameters():
        parameter.requires_grad_(name not in names)
    for stage in frozen:
        for module in stage.modules:
            network.backbone.get_submodule(module).eval()
