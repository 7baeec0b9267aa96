"""Backbones by name, and the network that edgeclf trains and exports.

The network takes raw pixels: normalization and the change of layout are part of it, so nothing
else needs a mean or standard deviation.  Normalization is a grouped 1 x 1 convolution, the only
form that TensorRT, ONNX Runtime and OpenCV since 4.1.1 all compute correctly.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from edgeclf_runtime.device.machine import quota_cores

from ..errors import OptionError, WeightsError
from .checkpoint import fit_state_dict, read_state_dict
from .weights import Weights, check_name, find_weights, is_folder, read_config

Channels = tuple[float, ...]
"""A value for each of red, green and blue."""

# torch counts processors, and ignores a container's quota.
torch.set_num_threads(min(torch.get_num_threads(), quota_cores() or torch.get_num_threads()))


class ImageClassifier(nn.Module):
    """A backbone with edgeclf's interface: raw pixels in, logits out.

    forward: float32 [N, height, width, 3], RGB, 0 to 255 -> float32 [N, classes]
    """

    def __init__(self, backbone: Any, mean: Channels, std: Channels) -> None:
        super().__init__()
        self.mean, self.std = tuple(mean), tuple(std)
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


def create(
    name: str,
    classes: int,
    weights: str | Weights | None = None,
    normalization: tuple[Channels, Channels] | None = None,
) -> ImageClassifier:
    """Build a backbone with a new head for a number of classes.

    name: of a timm model, or of a timm model's folder, local-dir:FOLDER or hf-hub:ORGANIZATION/NAME.  weights: what
    find_weights() takes or returned; None means random.  normalization: mean and standard deviation of pixels from 0 to 1;
    None means those of timm's configuration.  Raises OptionError for an unknown name or a head that is not
    linear, and WeightsError if the weights are missing or do not fit.
    """
    if isinstance(weights, str):
        weights = find_weights(name, weights)
    backbone = _create(name, weights, classes)
    if not isinstance(backbone.get_classifier(), nn.Linear):
        raise OptionError(
            f"the head of {name!r} is a {type(backbone.get_classifier()).__name__}; a backbone with a linear head was expected"
        )
    config = backbone.pretrained_cfg
    return ImageClassifier(backbone, *(normalization or (config["mean"], config["std"])))


def _create(name: str, weights: Weights | None, classes: int) -> Any:
    config: dict[str, Any] = {}
    pooling: dict[str, Any] = {}
    if is_folder(name):
        name, config, pooling = read_config(name)
    check_name(name)
    if weights is not None and weights.source in ("hub", "folder"):
        # timm adapts its own checkpoints to the model, and leaves out a head of another size.
        config["state_dict"] = read_state_dict(weights.path)
        try:
            return timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=config, num_classes=classes, **pooling
            )
        except RuntimeError as error:
            raise WeightsError(f"{weights.path} does not fit {name} ({str(error).splitlines()[0]})") from None
    backbone: Any = timm.create_model(
        name, pretrained=False, pretrained_cfg_overlay=config, num_classes=1000, **pooling
    )
    if weights is not None:
        tensors = fit_state_dict(backbone.state_dict(), weights, name, backbone.pretrained_cfg["classifier"])
        backbone.load_state_dict(tensors, strict=False)
    backbone.reset_classifier(classes)
    return backbone
