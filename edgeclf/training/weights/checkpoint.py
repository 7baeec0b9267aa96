"""Reads the tensors and the label names of a checkpoint, without running its code."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from edgeclf_runtime.files.read import read_json

from ...data.schemas import MAX_JSON_BYTES
from ...errors import WeightsError

if TYPE_CHECKING:
    import torch

RUN_FILE = "run.json"
"""Beside the weights of a run."""
# Where training programs put the state dict in their checkpoints.
_NESTED = (
    *("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model_state", "model", "net", "network"),
    *("module", "weights"),
)
# Where they put the names of the classes: a list, {name: index} or {index: name}.
_LABELS = ("class_names", "label_names", "labels", "classes", "names", "class_to_idx", "idx_to_class", "id2label")
# The same, in a JSON file beside the weights: a run of edgeclf, a model of timm's form.
_BESIDE = (RUN_FILE, "config.json")
# A pickle may contain itself.
_MOST_LEVELS = 4


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


def read_label_names(path: Path) -> tuple[str, ...]:
    """Return the names of the classes that a checkpoint, or a JSON file beside it, states; () if there are none."""
    found = _label_names(_read(path))
    for name in _BESIDE:
        if not found and (path.parent / name).is_file():
            with contextlib.suppress(OSError, ValueError):
                found = _label_names(read_json(path.parent / name, MAX_JSON_BYTES))
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
