"""Reads the tensors of a checkpoint without running its code, and fits them to a backbone by name, or by order and shape."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgeclf_runtime.files.read import read_json

from ..data.schemas import MAX_JSON_BYTES
from ..display.progress import say
from ..errors import WeightsError

if TYPE_CHECKING:
    import torch

    from .backbones import Backbone
    from .weights import Weights

# Where training programs put the state dict in their checkpoints.
_NESTED = (
    *("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model_state", "model", "net", "network"),
    *("module", "weights"),
)
# Where they put the names of the classes: a list, {name: index} or {index: name}.
_LABELS = ("class_names", "label_names", "labels", "classes", "names", "class_to_idx", "idx_to_class", "id2label")
# The same, in a JSON file beside the weights: a run of edgeclf, a model of timm's form.
_BESIDE = ("run.json", "config.json")
# A pickle may contain itself.
_MOST_LEVELS = 4
_COUNTER = "num_batches_tracked"
# Tensors of EfficientNet-PyTorch.
_TENSORFLOW = frozenset(("_conv_stem.weight", "_bn0.weight", "_blocks.0._depthwise_conv.weight"))
_SIDE = 224
_ALIKE = 1e-3
"""Largest difference of a feature from torchvision's, relative to the largest feature."""
# Share of tensors that a file may have besides a backbone's own, such as those of another head; more belong to a larger one.
_MOST_UNKNOWN = 0.1


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors by name from .safetensors, .pth or .pt, without running any code from the file.

    In a checkpoint, the state dict may lie under one of the usual names; the average of the weights (EMA) is preferred.
    """
    found = _tensors(_read(path))
    if not found:
        raise WeightsError(
            f"{path} has no state dict (tensors by name); save one with torch.save(model.state_dict(), PATH)"
        )
    damaged = [name for name, value in found.items() if not bool(value.isfinite().all())]
    if damaged:
        raise WeightsError(
            f"{path} has weights that are infinite or not a number, in {len(damaged)} of {len(found)} tensors, first {damaged[0]}: "
            "its training diverged, or the file is damaged; use other --weights"
        )
    return found


def separate_tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a network's tensors by name, each in memory of its own: layers may share their weights, which safetensors refuses."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}


def existing(path: Path) -> Path:
    """Return the path of a file of weights; WeightsError if there is no such file."""
    if not path.is_file():
        raise WeightsError(f"the weights {path} do not exist; imagenet, none or a file was expected")
    return path


def _read(path: Path) -> object:
    """Return what a file holds: tensors by name, or whatever a training program saved."""
    existing(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            import torch

            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # each reader has its own exceptions, and torch's message suggests running the code
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors, and so could run code: "
            "save the weights with torch.save(model.state_dict(), PATH), or copy the file again"
        ) from None


def _tensors(state: object, levels: int = _MOST_LEVELS) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict, or of the one inside a checkpoint; {} if there is none."""
    import torch

    if not isinstance(state, dict) or levels == 0:
        return {}
    for name in _NESTED:
        if found := _tensors(state.get(name), levels - 1):
            return found
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    return tensors if len(tensors) > len(state) / 2 else {}


def fit_state_dict(
    own: Mapping[str, torch.Tensor], weights: Weights, backbone: str, classifiers: str | tuple[str, ...]
) -> tuple[dict[str, torch.Tensor], bool]:
    """Return the tensors of a file under a backbone's own names, without its head, and whether the file has these names.

    Raises WeightsError if they do not fit.  own: the backbone's state dict.  classifiers: its head.  Names may have a prefix that all share.  A file with other
    names, such as torchvision's, fits if it has the same shapes in the same order.
    """
    wanted = _without_head(own, classifiers)
    state = read_state_dict(weights.path)
    named = _without_prefix(state, wanted)
    wrong = [
        name
        for name, value in wanted.items()
        if not name.endswith(_COUNTER) and (name not in named or named[name].shape != value.shape)
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


def match_torchvision(backbone: Backbone, weights: Weights, name: str) -> float | None:
    """Give a backbone the epsilon of batch norm that torchvision's network has, if a file has its weights; return that.

    timm's MobileNetV3 and EfficientNet-B5 to B7 have another one than torchvision's, and its tf_ variants pad otherwise; neither
    shows in the tensors.  Returns None, and changes nothing, for weights under other names.  Raises WeightsError if the
    backbone does not compute torchvision's features then.
    """
    import torch

    state = read_state_dict(weights.path)
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


def refuse_other_padding(backbone: torch.nn.Module, weights: Weights, name: str, named: bool) -> None:
    """Raise WeightsError if a file has the weights of a network that computes otherwise, which its tensors do not show.

    A run beside the file says what it was trained as.  The names of EfficientNet-PyTorch's tensors mean TensorFlow's padding, and
    its epsilon of batch norm, which timm's tf_ variants have.  named: whether the tensors have the backbone's own names.
    """
    trained = _backbone_of(weights.path)
    if trained and _differ(trained, name):
        raise WeightsError(
            f"{weights.path} was trained as {trained}, and {name} computes something else with its weights; "
            f"choose --backbone {trained}, or other --weights"
        )
    padded = any(type(module).__name__ == "Conv2dSame" for module in backbone.modules())
    if not (named or padded) and read_state_dict(weights.path).keys() >= _TENSORFLOW:
        raise WeightsError(
            f"{weights.path} has weights from TensorFlow, whose padding and batch norm {name} does not have; "
            f"choose --backbone tf_{name}, or other --weights"
        )


def _backbone_of(path: Path) -> str:
    """Return the backbone that the run beside a file of weights states; "" if there is none."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return str(read_json(path.parent / _BESIDE[0], MAX_JSON_BYTES)["options"]["backbone"])
    return ""


def _differ(first: str, second: str) -> bool:
    """Return whether of two names of timm's, whose tags do not count, one is the other's tf_ variant."""
    names = {name.partition(".")[0] for name in (first, second)}
    return len(names) == 2 and len({name.removeprefix("tf_") for name in names}) == 1


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


def norm_eps_of(path: Path) -> float | None:
    """Return the epsilon of batch norm that the run beside a file of weights states; None if there is none."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = read_json(path.parent / _BESIDE[0], MAX_JSON_BYTES).get("norm_eps")
        return found if isinstance(found, float) else None
    return None


def set_norm_eps(network: torch.nn.Module, epsilon: float) -> None:
    """Set the epsilon of every batch norm, in place."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = epsilon


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
        body = [key for key in own if not key.endswith(_COUNTER)][:-2]
        named = _without_prefix(state, own)
        if set(named) <= set(own) and all(key in named and named[key].shape == own[key].shape for key in body):
            # The head may be missing, or have another size.
            fits = {key: key in named and named[key].shape == value.shape for key, value in own.items()}
            tensors = {key: named[key] if fits[key] else torch.zeros_like(own[key], device="cpu") for key in own}
            network.load_state_dict(tensors, assign=True)
            return theirs, network
    return None


def _letters(name: str) -> str:
    return re.sub(r"[^a-z].*", "", name.removeprefix("tf_").replace("_", ""))


def find_head(
    state: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor], classifier: str
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the weight, float [classes, features], and the bias of a file's linear head; None if it has none.

    own, classifier: a backbone's state dict, and the name of its head.  In a file with other names, the head is what follows
    the backbone's tensors.
    """
    wanted = _without_head(own, classifier)
    named = _without_prefix(state, wanted)
    found = [named[name] for name in (f"{classifier}.weight", f"{classifier}.bias") if name in named]
    if not found:
        found = [value for name, value in state.items() if not name.endswith(_COUNTER)]
        found = found[sum(not name.endswith(_COUNTER) for name in wanted) :]
    if len(found) != 2 or found[0].ndim < 2 or found[1].shape != found[0].shape[:1]:
        return None
    return found[0].flatten(1).float(), found[1].float()


def read_label_names(path: Path) -> tuple[str, ...]:
    """Return the names of the classes that a checkpoint, or a JSON file beside it, states; () if there are none."""
    found = _label_names(_read(path))
    for name in _BESIDE:
        if not found and (path.parent / name).is_file():
            with contextlib.suppress(OSError, ValueError):
                found = _label_names(read_json(path.parent / name, MAX_JSON_BYTES))
    return found


def _label_names(state: object) -> tuple[str, ...]:
    if not isinstance(state, dict):
        return ()
    for key in _LABELS:
        names = state.get(key)
        if isinstance(names, dict):
            by_name = all(isinstance(value, int) for value in names.values())
            pairs = [(index, name) if by_name else (name, index) for name, index in names.items()]
            names = [
                name for _, name in sorted(pairs, key=lambda pair: int(pair[0]) if str(pair[0]).isdecimal() else -1)
            ]
        if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ()


def _without_head(own: Mapping[str, torch.Tensor], classifiers: str | tuple[str, ...]) -> dict[str, torch.Tensor]:
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    return {name: value for name, value in own.items() if not name.startswith(tuple(f"{head}." for head in heads))}


def _without_prefix(state: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict without the prefix (module., model., backbone., ...) with which most names are wanted."""
    first = next(iter(wanted))
    prefixes = [name[: -len(first)] for name in state if name == first or name.endswith(f".{first}")] or [""]
    prefix = max(prefixes, key=lambda prefix: sum(prefix + name in state for name in wanted))
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def _by_order(state: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors of the same shapes, in the same order, under the wanted names; {} if they differ.

    Names must end alike (weight, bias, running_mean, running_var); counters of batch norm do not count.  A fully connected
    layer's weights may be those of a convolution over the whole map.
    """
    names = [name for name in wanted if not name.endswith(_COUNTER)]
    values = [(name, value) for name, value in state.items() if not name.endswith(_COUNTER)]
    found = {}
    for name, (other, value) in zip(names, values, strict=False):
        shape = wanted[name].shape
        flattened = value.ndim == 2 and len(shape) == 4 and value.shape == (shape[0], math.prod(shape[1:]))
        if name.rpartition(".")[2] != other.rpartition(".")[2] or not (value.shape == shape or flattened):
            return {}
        found[name] = value.reshape(shape)
    return found if len(found) == len(names) else {}
