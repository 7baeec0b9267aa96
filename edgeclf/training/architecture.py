"""The network that edgeclf trains and exports: a backbone of timm's behind raw pixels, with random weights.

The network takes raw pixels: normalization and the change of layout are part of it, so nothing
else needs a mean or standard deviation.  Normalization is a grouped 1 x 1 convolution, the only
form that TensorRT, ONNX Runtime and OpenCV since 4.1.1 all compute correctly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import timm
import torch
from torch import nn

from edgeclf_runtime.files.schema import JsonObject

from ..errors import OptionError
from .weights.sources import check_name, is_folder, read_config

if TYPE_CHECKING:

    class Backbone(nn.Module):
        """A model of timm, with the members that are used besides those of every module."""

        pretrained_cfg: dict[str, Any]
        num_features: int

        def __call__(self, image: torch.Tensor) -> torch.Tensor: ...

        def forward_features(self, image: torch.Tensor) -> torch.Tensor: ...

        def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor: ...

        def get_classifier(self) -> nn.Linear: ...

        def reset_classifier(self, classes: int) -> None: ...


Channels = tuple[float, ...]
"""A value for each of red, green and blue."""


class ImageClassifier(nn.Module):
    """A backbone with edgeclf's interface: raw pixels in, logits out.

    forward: float32 [N, height, width, 3], RGB, 0 to 255 -> float32 [N, classes]
    """

    def __init__(self, backbone: Backbone, mean: Channels, std: Channels, norm_eps: float | None = None) -> None:
        """norm_eps: what a run records of the backbone's batch norm: its epsilon, or None if it is timm's."""
        super().__init__()
        self.norm_eps = norm_eps
        self.mean, self.std = tuple(mean), tuple(std)
        self.normalize = nn.Conv2d(3, 3, 1, groups=3)
        self.normalize.weight = nn.Parameter((1 / (torch.tensor(std) * 255)).view(3, 1, 1, 1), requires_grad=False)
        self.normalize.bias = nn.Parameter(-torch.tensor(mean) / torch.tensor(std), requires_grad=False)
        self.backbone = backbone

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


@dataclass(frozen=True)
class Architecture:
    """The name and arguments from which timm makes a backbone."""

    name: str
    """timm's own name, also of a folder's model."""
    config: JsonObject
    """The facts about pixels in a folder's config.json, empty otherwise."""
    arguments: JsonObject
    """timm's global_pool and bn_eps, where they are not the backbone's own."""

    def backbone(self, classes: int = 1000, **more: Any) -> Backbone:
        """Make the backbone with random weights, unless ``more``, arguments of timm's, says otherwise."""
        arguments = {"num_classes": classes, "pretrained_cfg_overlay": self.config, **self.arguments, **more}
        return cast("Backbone", timm.create_model(self.name, **arguments))


def find_architecture(name: str, pooling: str | None = None) -> Architecture:
    """Return what a backbone is made from.

    name: of a timm model, or of a timm model's folder, local-dir:FOLDER or hf-hub:ORGANIZATION/NAME.  pooling: timm's
    ``global_pool``; None means the backbone's own.  Raises OptionError for an unknown name, and WeightsError for a folder that
    is missing or damaged.
    """
    found = Architecture(name, {}, {"global_pool": pooling} if pooling else {})
    if is_folder(name):
        found = Architecture(*read_config(name))
    check_name(found.name)
    return found


def build(
    name: str,
    classes: int,
    normalization: tuple[Channels, Channels] | None = None,
    stem_stride: int | None = None,
    pooling: str | None = None,
    norm_eps: float | None = None,
) -> ImageClassifier:
    """Build a backbone with a new head for a number of classes, all of it with random weights.

    name, pooling: see :func:`find_architecture`.  normalization: mean and standard deviation of pixels from 0 to 1; None means
    those of timm's configuration.  stem_stride: see :func:`keep_resolution`; None leaves the first layers as they are.  norm_eps:
    epsilon of every batch norm; None means the backbone's own.  Raises OptionError for an unknown name, a head that is not
    linear or first layers that cannot be changed.
    """
    found = find_architecture(name, pooling)
    backbone = found.backbone()
    keep_resolution(backbone, found.name, stem_stride)
    backbone.reset_classifier(classes)
    return classifier(backbone, name, normalization, norm_eps or found.arguments.get("bn_eps"))


def classifier(
    backbone: Backbone, name: str, normalization: tuple[Channels, Channels] | None, norm_eps: float | None
) -> ImageClassifier:
    """Return a backbone with edgeclf's interface; OptionError if its head is not linear."""
    if norm_eps is not None:
        set_norm_eps(backbone, norm_eps)
    if not isinstance(backbone.get_classifier(), nn.Linear):
        raise OptionError(
            f"the head of {name!r} is a {type(backbone.get_classifier()).__name__}; a backbone with a linear head was expected"
        )
    config = backbone.pretrained_cfg
    mean, std = normalization or (config["mean"], config["std"])
    return ImageClassifier(backbone, mean, std, norm_eps)


def set_norm_eps(network: nn.Module, epsilon: float) -> None:
    """Set the epsilon of every batch norm, in place."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = epsilon


def keep_resolution(backbone: Backbone, name: str, stride: int | None) -> bool:
    """Make the first layers shrink an image by ``stride``, 1 or 2, in place; return whether a layer was replaced by a new one.

    ResNets shrink by 4, which leaves little of 32 pixels.  He et al. (2015, arXiv 1512.03385, section 4.2) begin with a convolution
    of 3 x 3 and no pooling for CIFAR, which is 1; with the pooling it is 2.  The first convolution of EfficientNets and MobileNets
    shrinks by 2, and can keep its weights.
    """
    if stride is None:
        return False
    first, replaced = getattr(backbone, "conv1", None), False
    if first is not None and hasattr(backbone, "maxpool"):
        replaced = isinstance(first, nn.Conv2d)
        if replaced:
            backbone.conv1 = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=first.bias is not None)
            nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
        else:  # several convolutions of 3 x 3, as in ResNet-D
            first[0].stride = (1, 1)
        if stride == 1:
            backbone.maxpool = nn.Identity()
        return replaced
    first = getattr(backbone, "conv_stem", None)
    if isinstance(first, nn.Conv2d):
        first.stride = (stride, stride)
        return False
    raise OptionError(
        f"stem-stride does not fit {name}: ResNets and networks with the first layer of EfficientNet or MobileNet were expected, such "
        "as resnet18 or mobilenetv3_small_100; leave it out, or choose another --backbone"
    )
