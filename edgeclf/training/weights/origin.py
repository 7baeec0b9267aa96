"""Makes a backbone compute what its weights were trained for: padding and epsilon of batch norm do not show in the tensors."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgeclf_runtime.files.read import read_json

from ...data.schemas import MAX_JSON_BYTES
from ...errors import WeightsError
from ..architecture import set_norm_eps
from .checkpoint import RUN_FILE
from .state_dict import COUNTER, without_prefix

if TYPE_CHECKING:
    import torch

    from ..architecture import Backbone
    from .sources import Weights

# Tensors of EfficientNet-PyTorch.
_TENSORFLOW = frozenset(("_conv_stem.weight", "_bn0.weight", "_blocks.0._depthwise_conv.weight"))
_SIDE = 224
_ALIKE = 1e-3
"""Largest difference of a feature from torchvision's, relative to the largest feature."""


def match_torchvision(backbone: Backbone, state: dict[str, torch.Tensor], weights: Weights, name: str) -> float | None:
    """Give a backbone the epsilon of batch norm that torchvision's network has, if a file has its weights; return that.

    state: the file's tensors.
    timm's MobileNetV3 and EfficientNet-B5 to B7 have another one than torchvision's, and its tf_ variants pad otherwise; neither
    shows in the tensors.  Returns None, and changes nothing, for weights under other names.  Raises WeightsError if the
    backbone does not compute torchvision's features then.
    """
    import torch

    found = _torchvisions(state, name)
    if found is None:
        return None
    theirs, original = found
    epsilons = {module.eps for module in original.modules() if isinstance(module, torch.nn.BatchNorm2d)}
    if len(epsilons) != 1:
        return None
    (epsilon,) = epsilons
    set_norm_eps(backbone, epsilon)
    features, expected = _features(backbone, original)
    if float((features - expected).abs().max()) > _ALIKE * max(1e-6, float(expected.abs().max())):
        plain = name.removeprefix("tf_")
        choice = f"choose --backbone {plain}" if plain != name else "choose another --backbone"
        raise WeightsError(
            f"{weights.path} has the weights of torchvision's {theirs}, with which {name} computes something else; "
            f"{choice}, or other --weights"
        )
    return epsilon


def refuse_other_padding(
    backbone: torch.nn.Module, state: dict[str, torch.Tensor], weights: Weights, name: str, named: bool
) -> None:
    """Raise WeightsError if a file has the weights of a network that computes otherwise, which its tensors do not show.

    A run beside the file says what it was trained as.  The names of EfficientNet-PyTorch's tensors mean TensorFlow's padding, and
    its epsilon of batch norm, which timm's tf_ variants have.  state: the
    file's tensors.  named: whether they have the backbone's own names.
    """
    trained = _backbone_of(weights.path)
    if trained and _differ(trained, name):
        raise WeightsError(
            f"{weights.path} was trained as {trained}, and {name} computes something else with its weights; "
            f"choose --backbone {trained}, or other --weights"
        )
    padded = any(type(module).__name__ == "Conv2dSame" for module in backbone.modules())
    if not (named or padded) and state.keys() >= _TENSORFLOW:
        raise WeightsError(
            f"{weights.path} has weights from TensorFlow, whose padding and batch norm {name} does not have; "
            f"choose --backbone tf_{name}, or other --weights"
        )


def norm_eps_of(path: Path) -> float | None:
    """Return the epsilon of batch norm that the run beside a file of weights states; None if there is none."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = read_json(path.parent / RUN_FILE, MAX_JSON_BYTES).get("norm_eps")
        return found if isinstance(found, float) else None
    return None


def _backbone_of(path: Path) -> str:
    """Return the backbone that the run beside a file of weights states; "" if there is none."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return str(read_json(path.parent / RUN_FILE, MAX_JSON_BYTES)["options"]["backbone"])
    return ""


def _differ(first: str, second: str) -> bool:
    """Return whether of two names of timm's, whose tags do not count, one is the other's tf_ variant."""
    names = {name.partition(".")[0] for name in (first, second)}
    return len(names) == 2 and len({name.removeprefix("tf_") for name in names}) == 1


def _torchvisions(state: dict[str, torch.Tensor], name: str) -> tuple[str, torch.nn.Module] | None:
    """Return the name and the network of torchvision whose tensors a state dict has; None if there is none.

    name: of the backbone; only networks whose names begin alike are compared.  The head may be missing.
    """
    import torch
    from torchvision import models

    start = _letters(name)
    for theirs in models.list_models(module=models):
        if _letters(theirs) != start:
            continue
        with torch.device("meta"):
            network = models.get_model(theirs)
        own = network.state_dict()
        body = [key for key in own if not key.endswith(COUNTER)][:-2]
        named = without_prefix(state, own)
        if set(named) <= set(own) and all(key in named and named[key].shape == own[key].shape for key in body):
            # The head may be missing, or have another size.
            fits = {key: key in named and named[key].shape == value.shape for key, value in own.items()}
            tensors = {key: named[key] if fits[key] else torch.zeros_like(own[key], device="cpu") for key in own}
            network.load_state_dict(tensors, assign=True)
            return theirs, network
    return None


def _letters(name: str) -> str:
    return re.sub(r"[^a-z].*", "", name.removeprefix("tf_").replace("_", ""))


def _features(backbone: Backbone, original: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the inputs of a backbone's head and of another network's last linear layer, for an image of noise."""
    import torch

    image = torch.rand(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))
    inputs: list[torch.Tensor] = []
    head = [module for module in original.modules() if isinstance(module, torch.nn.Linear)][-1]
    head.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad():
        original.eval()(image)
        found = backbone.eval().forward_head(backbone.forward_features(image), pre_logits=True).flatten(1)
    backbone.train()
    return found, inputs[0]
