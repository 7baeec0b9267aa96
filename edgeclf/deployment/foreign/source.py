"""Source, a model of another program: an ONNX file, a TorchScript file or a torch module, and what it states of itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.files.schema import SchemaError, parse_json

from ...errors import ModelError, OptionError
from ...graph.foreign_file import TORCHSCRIPT_SUFFIXES, check_torchscript, read_onnx
from ...graph.foreign_model import ImageShape, image_input, infer_original
from ...options import ImportOptions
from ...training.machine.threads import torch_threads
from .settings import Stated, from_metadata, from_timm, read_config

if TYPE_CHECKING:
    import onnx
    import torch

_ELSEWHERE = {
    **dict.fromkeys((".keras", ".h5", ".hdf5"), 'in Keras: model.export("model.onnx", format="onnx")'),
    ".pt2": "save it with torch.onnx.export, or give the module to edgeclf.import_model in Python",
    ".safetensors": "it holds weights without a model: give the module with its weights to edgeclf.import_model in Python",
    ".tflite": "export the model that it was made from, before it was quantized",
}


@dataclass(frozen=True)
class Source:
    """A model of another library: what it states, its graph, and its own results."""

    name: str
    sha256: str | None
    kind: str
    dims: list[int | None]
    declared: dict[str, Stated]
    graph: Callable[[ImageShape], onnx.ModelProto]
    scores: Callable[[Iterable[np.ndarray], int], np.ndarray]


def open_source(model: str | Path | torch.nn.Module, options: ImportOptions) -> Source:
    """Return the source of a path or a torch module."""
    config = {options.config: read_config(Path(options.config))} if options.config else {}
    if isinstance(model, (str, os.PathLike)):
        path = Path(model)
        suffix = path.suffix.lower()
        if not path.is_file():
            raise ModelError(
                f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; an ONNX file was expected"
            )
        if suffix == ".onnx":
            return _from_onnx(path, options, config)
        if suffix in TORCHSCRIPT_SUFFIXES:
            return _from_torchscript(path, config)
        advice = _ELSEWHERE.get(suffix, "export it from its library")
        raise ModelError(f"{path} is neither ONNX nor TorchScript (.torchscript); make an ONNX file of it: {advice}")
    if not hasattr(model, "state_dict"):
        raise OptionError(f"the model is a {type(model).__name__}; a path or a torch module was expected")
    stated = from_timm(getattr(model, "pretrained_cfg", None))
    if stated:
        config["timm's configuration"] = stated
    return _from_module(model, type(model).__name__, None, "torch module", config)


def _from_onnx(path: Path, options: ImportOptions, config: Mapping[str, Stated]) -> Source:
    model = read_onnx(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Source(
        name=path.name,
        sha256=sha256_file(path),
        kind="ONNX",
        dims=image_input(model)[1],
        declared={**config, **from_metadata(metadata, path.name)},
        graph=lambda _: model,
        scores=lambda batches, labels: infer_original(model, labels, batches, options.tensor or ""),
    )


def _from_torchscript(path: Path, config: Mapping[str, Stated]) -> Source:
    from ...graph.foreign_torch import load_torchscript

    text = check_torchscript(path)
    try:
        stated = parse_json(text.encode()) if text else {}
        metadata = {key: str(value) for key, value in stated.items()} if isinstance(stated, dict) else {}
    except SchemaError:
        metadata = {}
    declared = {**config, **from_metadata(metadata, path.name)}
    return _from_module(load_torchscript(path), path.name, sha256_file(path), "TorchScript", declared)


def _from_module(
    module: torch.nn.Module, name: str, sha256: str | None, kind: str, declared: dict[str, Stated]
) -> Source:
    from ...graph.foreign_torch import export_module, own_copy, run_module

    own = module if kind == "TorchScript" else own_copy(module)

    def scores(batches: Iterable[np.ndarray], _: int) -> np.ndarray:
        with torch_threads():
            return np.concatenate([run_module(own, batch).reshape(len(batch), -1) for batch in batches])

    def graph(shape: ImageShape) -> onnx.ModelProto:
        with torch_threads():
            return export_module(own, shape.sizes(1), name)

    dims = [None, 3, None, None]
    return Source(name, sha256, kind, dims, declared, graph, scores)
