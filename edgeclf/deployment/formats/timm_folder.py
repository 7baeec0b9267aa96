"""A folder that timm loads: ``timm.create_model("local-dir:RUN/timm")``, with config.json and model.safetensors.

The weights are the run's, under timm's own names and without the normalization, which timm keeps in its configuration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.runners.base import ModelPath, Runner

from ...errors import OptionError
from .base import Source

if TYPE_CHECKING:
    import numpy as np

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_CROP_MODES = {"crop": "center", "stretch": "squash", "letterbox": "border"}


def write(source: Source, path: Path) -> None:
    """Write the two files into a folder."""
    from safetensors.torch import save_file

    spec = source.run.preprocessing
    if spec.color != "RGB":
        raise OptionError(f"the run takes {spec.color}; timm's models take RGB, so it cannot become one")
    backbone = source.network.backbone
    tensors = {name: tensor.contiguous() for name, tensor in backbone.state_dict().items()}
    save_file(tensors, str(path / WEIGHTS), metadata={"format": "pt"})
    text = json.dumps(config_of(source), indent=2, ensure_ascii=False) + "\n"
    (path / CONFIG).write_text(text, encoding="utf-8")


def config_of(source: Source) -> dict[str, Any]:
    """Return config.json in the form of timm's ``save_for_hf``."""
    network, labels, spec = source.network, source.run.labels, source.run.preprocessing
    known = network.backbone.pretrained_cfg
    return {
        "architecture": known["architecture"],
        "num_classes": len(labels),
        "num_features": network.backbone.num_features,
        "pretrained_cfg": {
            "tag": "edgeclf",
            "custom_load": False,
            "input_size": [3, spec.height, spec.width],
            "fixed_input_size": bool(known.get("fixed_input_size", False)),
            "interpolation": "bilinear",
            "crop_pct": spec.crop,
            "crop_mode": _CROP_MODES[spec.resize],
            "mean": list(network.mean),
            "std": list(network.std),
            "num_classes": len(labels),
            "pool_size": known.get("pool_size"),
            "first_conv": known.get("first_conv"),
            "classifier": known.get("classifier"),
        },
        "label_names": list(labels),
    }


def load(path: Path, threads: int) -> Runner:
    """Load it with timm."""
    return _TimmRunner(path, threads)


class _TimmRunner(Runner):
    """A folder of our own, with the normalization that timm reads from its configuration."""

    backend = title = "timm"

    def _load(self, model_path: ModelPath, threads: int | None) -> None:
        import timm
        import torch
        from timm.data import resolve_model_data_config

        torch.set_num_threads(threads or torch.get_num_threads())
        self.version = timm.__version__
        self._model: Any = timm.create_model(f"local-dir:{model_path}", pretrained=True).eval()
        config = resolve_model_data_config(self._model)
        self._mean, self._std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(batch).permute(0, 3, 1, 2) / 255
            logits: np.ndarray = self._model((pixels - self._mean) / self._std).numpy()
        return logits

    def _free(self) -> None:
        self._model = None
