"""Starts a training with a network that has its weights, and with the preprocessing of its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeclf_runtime.images.preprocess import Preprocessing

from ..errors import OptionError, first_sentence
from ..options import TrainOptions
from .weights.sources import Weights

if TYPE_CHECKING:
    from .architecture import ImageClassifier


def start(
    options: TrainOptions, labels: Sequence[str], weights: Weights | None
) -> tuple[ImageClassifier, Preprocessing, str]:
    """Return the network to train, its preprocessing, and a sentence about a head that is kept, or ""."""
    from .backbones import create
    from .weights.head import keep_head

    network = create(options.backbone, len(labels), weights, options.normalization, options.stem_stride)
    note = keep_head(network, weights, labels) if options.keep_head and weights is not None else ""
    return network, preprocessing_of(network, options), note


def preprocessing_of(network: ImageClassifier, options: TrainOptions) -> Preprocessing:
    """Return the preprocessing for the options; OptionError if the network cannot take images of that size."""
    import torch

    size = options.image_size or network.backbone.pretrained_cfg["input_size"][-1]
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, size, size, 3))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise OptionError(
            f"{options.backbone} cannot take images of {size} x {size} ({first_sentence(error)}); "
            f"choose another --image-size, say {network.backbone.pretrained_cfg['input_size'][-1]}"
        ) from None
    return Preprocessing(size, size, resize=options.resize).check()
