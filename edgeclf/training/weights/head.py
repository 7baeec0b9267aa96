"""Keeps the head of a weights file, instead of starting with a new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...data.findings import listed
from ...errors import WeightsError
from .checkpoint import read_label_names, read_state_dict
from .sources import Weights
from .state_dict import find_head

if TYPE_CHECKING:
    import torch

    from ..architecture import ImageClassifier


def keep_head(network: ImageClassifier, weights: Weights, labels: Sequence[str]) -> str:
    """Give a network the head of its weights file, and return a sentence about the order of its outputs.

    If the file names its classes, its outputs are put into the order of ``labels``.  Raises WeightsError if it has no head,
    another number of outputs, or other classes.
    """
    import torch

    weight, bias = _read_head(network, weights, labels)
    names = read_label_names(weights.path)
    if names:
        order = torch.tensor(_order(weights, names, labels))
        weight, bias = weight[order], bias[order]
    with torch.no_grad():
        network.head.weight.copy_(weight)
        network.head.bias.copy_(bias)
    if names:
        return f"the head of {weights.name} is kept; it names the same {len(labels)} labels"
    return (
        f"warning: the head of {weights.name} is kept, and the file does not name its labels: make sure that its outputs are, "
        f"in this order, {listed(labels)}"
    )


def _read_head(network: ImageClassifier, weights: Weights, labels: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    backbone = network.backbone
    head = find_head(read_state_dict(weights.path), backbone.state_dict(), backbone.pretrained_cfg["classifier"])
    if head is None:
        raise WeightsError(f"{weights.name} has no head that could be kept: leave out --keep-head to train a new one")
    classes, features = head[0].shape
    if classes != len(labels):
        raise WeightsError(
            f"{weights.name} has a head of {classes} outputs, but the data has {len(labels)} labels ({listed(labels)}): "
            "leave out --keep-head to train a new head, or use data with the labels of the file"
        )
    if features != network.head.in_features:
        raise WeightsError(
            f"{weights.name} has a head for {features} features, but the backbone has {network.head.in_features}: "
            "use weights of this backbone, or leave out --keep-head"
        )
    return head


def _order(weights: Weights, names: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Return the file's output of each label."""
    if sorted(names) != sorted(labels):
        raise WeightsError(
            f"{weights.name} was trained with the labels {listed(names)}, but the data has {listed(labels)}: "
            "rename the labels of the data, or leave out --keep-head to train a new head"
        )
    return [names.index(label) for label in labels]
