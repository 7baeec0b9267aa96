"""Heat maps: which parts of an image a network's answer rests on.

Grad-CAM (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017), on the
last feature maps of the backbone: what timm's forward_features returns.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from ..architecture import ImageClassifier

_AT_ONCE = 8


def heat_maps(network: ImageClassifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """Return what speaks for a label in each image: float32 [N, h, w], 0 to 1; None if the backbone has no such maps.

    images: uint8 [N, height, width, 3], RGB.  labels: int [N], the label of each that is to be explained.
    """
    found = []
    for start in range(0, len(images), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        heat = _heat(network.eval(), images[part], labels[part])
        if heat is None:
            return None
        found.append(heat)
    return np.concatenate(found)


def _heat(network: ImageClassifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    import torch

    with torch.no_grad():
        pixels = network.normalize(torch.from_numpy(images).permute(0, 3, 1, 2).float())
        maps = network.backbone.forward_features(pixels)
    if not isinstance(maps, torch.Tensor):
        return None
    maps = maps.detach().requires_grad_(True)
    with torch.enable_grad():
        # A copy, since a head may begin with an activation in place.
        logits = network.backbone.forward_head(maps.clone())
        chosen = logits.gather(1, torch.from_numpy(labels).long()[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, maps)
    values, slopes = (_as_maps(network.backbone, tensor) for tensor in (maps.detach(), gradient))
    # The head may read none of these maps, as that of a transformer with a class token.
    if values is None or slopes is None or not slopes.any():
        return None
    heat = (slopes.mean((2, 3), keepdim=True) * values).sum(1).relu()
    return np.asarray((heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-9)).numpy(), np.float32)


def _as_maps(backbone: torch.nn.Module, tensor: torch.Tensor) -> torch.Tensor | None:
    """Return a backbone's features as maps, [N, channels, h, w]; None if they are something else."""
    channels = backbone.num_features
    if tensor.ndim == 4:
        if tensor.shape[1] == channels:
            return tensor
        return tensor.permute(0, 3, 1, 2) if tensor.shape[3] == channels else None
    if tensor.ndim != 3:
        return None
    tokens = tensor[:, getattr(backbone, "num_prefix_tokens", 0) :]
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).unflatten(2, (side, side)) if side * side == tokens.shape[1] else None
