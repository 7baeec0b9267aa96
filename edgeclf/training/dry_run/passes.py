"""Remembers, in the user's cache folder, which networks passed the trial, so that each is tried once.

A file for each, with all that the trial depends on and the size of the images.  Only a pass is remembered.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import edgeclf_runtime
from edgeclf_runtime.device.machine import processor
from edgeclf_runtime.files.outputs import OTHER_CACHE, new_file
from edgeclf_runtime.files.read import read_json, sha256_bytes
from edgeclf_runtime.files.user_folders import cache_folder

from ...data.schemas import MAX_JSON_BYTES
from ...display.json_file import write_json
from ...display.progress import say
from ...errors import EdgeclfError
from ...options import TrainOptions
from ..weights.sources import Weights, is_folder, read_config

FOLDER = "backbones"
MOST = 200
"""Files; those that were not used for the longest time are removed."""
_LARGEST = 4096
_LIBRARIES = ("torch", "timm", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Pass:
    """The file that records that a network passed the trial."""

    path: Path
    facts: dict[str, Any]

    def recall(self) -> int | None:
        """Return the size of the images with which it has passed, None if it has not; a damaged file counts as missing."""
        try:
            found = read_json(self.path, MAX_JSON_BYTES)
            os.utime(self.path)
        except (OSError, ValueError):
            return None
        size = found.get("image_size") if isinstance(found, dict) and found.get("facts") == self.facts else None
        return size if type(size) is int and 1 <= size <= _LARGEST else None

    def remember(self, image_size: int) -> None:
        """Write the file, and remove old ones of others; what prevents it is shown."""
        try:
            with new_file(self.path, overwrite=True, elsewhere=OTHER_CACHE) as work:
                write_json(work, {"facts": self.facts, "image_size": image_size})
            files = sorted(self.path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
            for file in files[:-MOST]:
                file.unlink(missing_ok=True)
        except (EdgeclfError, OSError) as error:
            say(f"warning: the passed trial is not remembered ({error})")


def pass_of(
    options: TrainOptions, labels: Sequence[str], weights: Weights | None, flavors: Sequence[str]
) -> Pass | None:
    """Return the file of a network; None if this user has no cache folder, or the network is not one of timm's own."""
    folder = cache_folder()
    if folder is None or not _is_timms(options.backbone):
        return None
    facts = {
        "backbone": options.backbone,
        "config": read_config(options.backbone) if is_folder(options.backbone) else None,
        "weights": weights and weights.facts(),
        "labels": list(labels) if options.keep_head else len(labels),
        "options": [options.image_size, options.mean, options.std, options.stem_stride],
        "flavors": list(flavors),
        "versions": [platform.python_version(), *(import_module(name).__version__ for name in _LIBRARIES)],
        "sources": _sources(),
        "processor": processor(),
    }
    facts = json.loads(json.dumps(facts))
    return Pass(Path(folder, FOLDER, f"{sha256_bytes(json.dumps(facts, sort_keys=True).encode())[:32]}.json"), facts)


def _is_timms(backbone: str) -> bool:
    """Return whether a backbone's code is timm's, whose version is known."""
    import timm

    name = read_config(backbone)[0] if is_folder(backbone) else backbone.partition(".")[0]
    return timm.is_model(name) and timm.model_entrypoint(name).__module__.startswith("timm.")


@cache
def _sources() -> str:
    """Return a hash of the own source of the host and of the runtime, which may change without its version."""
    found = sha256()
    for root in (Path(__file__).parents[2], Path(edgeclf_runtime.__file__).parent):
        for file in sorted(root.rglob("*.py")):
            found.update(f"{file.relative_to(root.parent)}\n".encode() + file.read_bytes())
    return found.hexdigest()
