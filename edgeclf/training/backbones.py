"""Creates a network from a backbone's name, with pretrained weights or without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import OptionError, WeightsError, first_sentence
from .architecture import Architecture, Channels, ImageClassifier, build, classifier, find_architecture, keep_resolution
from .weights.checkpoint import read_state_dict
from .weights.origin import match_torchvision, norm_eps_of, refuse_other_padding
from .weights.sources import Weights, find_weights
from .weights.state_dict import fit_state_dict

if TYPE_CHECKING:
    from .architecture import Backbone


def create(
    name: str,
    classes: int,
    weights: str | Weights | None = None,
    normalization: tuple[Channels, Channels] | None = None,
    stem_stride: int | None = None,
) -> ImageClassifier:
    """Create a backbone with a new head for a number of classes.

    weights: what find_weights() takes or returned; None means random.  name, normalization, stem_stride: as of
    :func:`~.architecture.build`.  Every batch norm has the epsilon that the weights were trained with.  Raises what build() raises,
    OptionError if the stem-stride would lose the weights, and WeightsError if they are missing or do not fit.
    """
    if isinstance(weights, str):
        weights = find_weights(name, weights)
    if weights is None:
        return build(name, classes, normalization, stem_stride)
    found = find_architecture(name)
    load = _load_adapted if weights.source in ("hub", "folder") else _load_fitted
    backbone, norm_eps = load(found, weights, classes, stem_stride)
    return classifier(backbone, name, normalization, norm_eps or found.arguments.get("bn_eps"))


def _load_adapted(
    found: Architecture, weights: Weights, classes: int, stem_stride: int | None
) -> tuple[Backbone, float | None]:
    """Return a backbone with a checkpoint of timm's, which timm adapts to it; a head of another size is left out."""
    config = {**found.config, "state_dict": read_state_dict(weights.path)}
    try:
        backbone = found.backbone(classes, pretrained=True, pretrained_cfg_overlay=config)
    except RuntimeError as error:
        raise WeightsError(f"{weights.path} does not fit {found.name} ({first_sentence(error)})") from None
    if keep_resolution(backbone, found.name, stem_stride):
        raise _lost_weights(found.name)
    return backbone, None


def _load_fitted(
    found: Architecture, weights: Weights, classes: int, stem_stride: int | None
) -> tuple[Backbone, float | None]:
    """Return a backbone with the tensors of a file or package, and the epsilon of batch norm that they were trained with.

    The epsilon is None if it is the backbone's own.
    """
    backbone = found.backbone()
    # A file of a run with the same first layers has them.
    if keep_resolution(backbone, found.name, stem_stride) and weights.source != "file":
        raise _lost_weights(found.name)
    state = read_state_dict(weights.path)
    tensors, named = fit_state_dict(
        state, backbone.state_dict(), weights, found.name, backbone.pretrained_cfg["classifier"]
    )
    refuse_other_padding(backbone, state, weights, found.name, named)
    backbone.load_state_dict(tensors, strict=False)
    if named:
        epsilon = norm_eps_of(weights.path)
    else:
        plain = backbone
        if stem_stride is not None:
            plain = found.backbone()
            plain.load_state_dict(tensors, strict=False)
        epsilon = match_torchvision(plain, state, weights, found.name)
    backbone.reset_classifier(classes)
    return backbone, epsilon


def _lost_weights(name: str) -> OptionError:
    return OptionError(
        f"stem-stride replaces the first layer of {name}, whose weights were asked for: add --weights none"
    )
