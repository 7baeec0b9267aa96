"""Fits the tensors of a weights file to a backbone, by name, or by order and shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...display.progress import say
from ...errors import WeightsError

if TYPE_CHECKING:
    import torch

    from .sources import Weights

COUNTER = "num_batches_tracked"
"""The last part of the names of tensors that count the batches that a batch norm has seen; they are not weights."""
# Share of tensors that a file may have besides a backbone's own, such as those of another head; more belong to a larger one.
_MOST_UNKNOWN = 0.1


def fit_state_dict(
    state: dict[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    weights: Weights,
    backbone: str,
    classifiers: str | tuple[str, ...],
) -> tuple[dict[str, torch.Tensor], bool]:
    """Return the tensors of a file under a backbone's own names, without its head, and whether the file has these names.

    state: of the file.  own: of the backbone.  classifiers: its head.  Names may have a prefix that all share.  A file with other
    names, such as torchvision's, fits if it has the same shapes in the same order.  Raises WeightsError if it does not fit.
    """
    wanted = _without_head(own, classifiers)
    named = without_prefix(state, wanted)
    wrong = [
        name
        for name, value in wanted.items()
        if not name.endswith(COUNTER) and (name not in named or named[name].shape != value.shape)
    ]
    unknown = [name for name in named if name not in own]
    if not wrong and len(unknown) <= _MOST_UNKNOWN * len(own):
        return {name: named[name] for name in wanted if name in named}, True
    if ordered := _by_order(state, wanted):
        if weights.source == "file":
            say(
                f"{weights.name} names its tensors differently from {backbone}; they were matched by their order and shapes"
            )
        return ordered, False
    if wrong:
        what = f"{len(wrong)} of {len(own)} tensors are missing or have another shape, first {wrong[0]}"
    else:
        what = f"{len(unknown)} tensors are unknown, first {unknown[0]}"
    raise WeightsError(
        f"{weights.path} does not fit {backbone}: {what}; use weights of this backbone, or --weights none"
    )


def find_head(
    state: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor], classifier: str
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the weight, float [classes, features], and the bias of a file's linear head; None if it has none.

    own, classifier: a backbone's state dict, and the name of its head.  In a file with other names, the head is what follows
    the backbone's tensors.
    """
    wanted = _without_head(own, classifier)
    named = without_prefix(state, wanted)
    found = [named[name] for name in (f"{classifier}.weight", f"{classifier}.bias") if name in named]
    if not found:
        found = [value for name, value in state.items() if not name.endswith(COUNTER)]
        found = found[sum(not name.endswith(COUNTER) for name in wanted) :]
    if len(found) != 2 or found[0].ndim < 2 or found[1].shape != found[0].shape[:1]:
        return None
    return found[0].flatten(1).float(), found[1].float()


def without_prefix(state: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict without the prefix (module., model., backbone., ...) with which most names are wanted."""
    first = next(iter(wanted))
    prefixes = [name[: -len(first)] for name in state if name == first or name.endswith(f".{first}")] or [""]
    prefix = max(prefixes, key=lambda prefix: sum(prefix + name in state for name in wanted))
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def _without_head(own: Mapping[str, torch.Tensor], classifiers: str | tuple[str, ...]) -> dict[str, torch.Tensor]:
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    return {name: value for name, value in own.items() if not name.startswith(tuple(f"{head}." for head in heads))}


def _by_order(state: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors of the same shapes, in the same order, under the wanted names; {} if they differ.

    Names must end alike (weight, bias, running_mean, running_var); counters of batch norm do not count.  A fully connected
    layer's weights may be those of a convolution over the whole map.
    """
    names = [name for name in wanted if not name.endswith(COUNTER)]
    values = [(name, value) for name, value in state.items() if not name.endswith(COUNTER)]
    found = {}
    for name, (other, value) in zip(names, values, strict=False):
        shape = wanted[name].shape
        flattened = value.ndim == 2 and len(shape) == 4 and value.shape == (shape[0], math.prod(shape[1:]))
        if name.rpartition(".")[2] != other.rpartition(".")[2] or not (value.shape == shape or flattened):
            return {}
        found[name] = value.reshape(shape)
    return found if len(found) == len(names) else {}
