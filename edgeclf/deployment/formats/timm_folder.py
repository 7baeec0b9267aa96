"""A folder that timm loads: ``timm.create_model("local-dir:RUN/timm")``, with config.json and model.safetensors.

The weights are the run's, under timm's own names and without the normalization, which timm keeps in its configuration.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.runners.base import ModelPath, Outputs, Runner

from ...errors import ModelError
from ...training.weights.checkpoint import separate_tensors
from .base import Source

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

_CROP_MODES = {"crop": "center", "stretch": "squash", "letterbox": "border"}


def write(source: Source, path: Path) -> None:
    """Write the two files into a folder."""
    from timm.models import save_for_hf

    spec = source.run.preprocessing
    if spec.color != "RGB":
        raise ModelError(f"the run takes {spec.color}; timm's models take RGB, so it cannot become one")
    if source.run.facts["options"].get("stem_stride") is not None:
        raise ModelError(
            "the run has other first layers (stem-stride) than timm's model of that name, so it cannot become one; "
            "choose another --format"
        )
    # The weights stay shared; only the configuration is the copy's own.
    backbone = copy.copy(source.network.backbone)
    backbone.pretrained_cfg = {
        **backbone.pretrained_cfg,
        "tag": "edgeclf",
        "custom_load": False,
        "input_size": (3, spec.height, spec.width),
        "test_input_size": None,
        "interpolation": "bilinear",
        "crop_pct": spec.crop,
        "test_crop_pct": None,
        "crop_mode": _CROP_MODES[spec.resize],
        **_normalization(source.network.normalize),
        "num_classes": len(source.run.labels),
    }
    backbone.state_dict = lambda: separate_tensors(source.network.backbone)  # type: ignore[method-assign, assignment]
    epsilon = source.network.norm_eps
    arguments = {} if epsilon is None else {"bn_eps": epsilon}
    save_for_hf(backbone, str(path), {"label_names": list(source.run.labels)}, arguments, safe_serialization=True)


def _normalization(layer: nn.Conv2d) -> dict[str, tuple[float, ...]]:
    """Return the mean and standard deviation of pixels from 0 to 1 that a network's first layer holds."""
    std = 1 / (layer.weight.detach().flatten().double() * 255)
    mean = -layer.bias.detach().double() * std  # type: ignore[union-attr]
    return {
        name: tuple(round(value, 6) for value in values.tolist()) for name, values in (("mean", mean), ("std", std))
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

    def _infer(self, batch: np.ndarray) -> Outputs:
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(batch).permute(0, 3, 1, 2) / 255
            return Outputs(self._model((pixels - self._mean) / self._std).numpy())

    def _free(self) -> None:
        self._model = None
