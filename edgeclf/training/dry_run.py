"""Exports and quantizes a network before it is trained, so that hours are not spent on one that no device can run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

from ..data.temporary import temporary_folder
from ..display.progress import say
from ..errors import EdgeclfError, ModelError, OptionError, OutputError, first_sentence
from ..graph.host_form import HostRunner
from ..graph.int8.activations import collect_histograms
from ..graph.int8.forms import usual_form
from ..graph.int8.qdq import write_flavor
from ..graph.int8.ranges import ranges_of
from ..graph.int8.rounding import Rounding
from ..graph.onnx_file import prepare, write_onnx
from ..options import TrainOptions
from ..targets import FLAVORS
from .weights.sources import Weights, find_weights

if TYPE_CHECKING:
    import onnx

    from .backbones import ImageClassifier

ROUNDING = 3.0
"""A difference from torch may also be this multiple of torch's own rounding error, which random weights can make large."""
# Largest difference of a logit from torch's, relative to the largest logit.
_TOLERANCE = 1e-2
_FLAVORS = ("int8-cpu", "int8-tensorrt")
"""Flavors that are tried: the others have the Q/DQ pairs of one of these, in other types."""
_LARGE = 150_000_000
"""Bytes of a file that takes seconds to load, such as ViT-B's for TensorRT, whose weights are float."""


def try_backbone(options: TrainOptions, labels: Sequence[str]) -> tuple[Weights | None, Preprocessing]:
    """Find a backbone's weights, try the network that they make, and return them with the network's preprocessing.

    No image is needed.  What passed is not tried again in this process.  Raises OptionError, WeightsError or
    DependencyError for a backbone or weights that are not there or do not fit, and ModelError as :func:`check_export` does.
    """
    weights = find_weights(options.backbone, options.weights, options.download)
    return weights, _tried(options, tuple(labels), weights)


@lru_cache(maxsize=8)
def _tried(options: TrainOptions, labels: tuple[str, ...], weights: Weights | None) -> Preprocessing:
    from .machine.determinism import seeded

    say(f"trying export and INT8 of {options.backbone}")
    # What the caller draws at random afterwards does not depend on it.
    with seeded(options.seed):
        network, spec = start(options, labels, weights)[:2]
        check_export(network, spec)
    return spec


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


def check_export(network: ImageClassifier, spec: Preprocessing) -> None:
    """Raise ModelError for a network that cannot be exported or quantized, or does not give torch's logits then.

    Two images at once show a batch size that was written as a constant.
    """
    import torch

    images = np.random.default_rng(0).integers(0, 256, (2, spec.height, spec.width, 3)).astype(np.float32)
    # Not inference_mode: what a network keeps of it, such as ConViT's positions, could not be trained with.
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(images)).numpy()
    with temporary_folder() as folder:
        found = _try_files(network, spec, images, Path(folder))
    largest = max(1e-6, float(np.abs(expected).max()))
    difference, limit = float(np.abs(found - expected).max()), _TOLERANCE * largest
    if not difference <= limit:
        limit = max(limit, ROUNDING * rounding_error(network, [images], expected))
    if not difference <= limit:
        raise ModelError(
            f"the logits of this backbone's ONNX file differ from torch's by {difference / largest:.1%} of the largest one, at "
            f"most {limit / largest:.0%} was expected; choose another --backbone"
        )


def _try_files(network: ImageClassifier, spec: Preprocessing, images: np.ndarray, folder: Path) -> np.ndarray:
    """Write and run the FP32 file, and Q/DQ files of each kind; returns FP32's logits."""
    what, file = "does not run as ONNX", folder / "model.onnx"
    write_onnx(network, spec, file, {})
    try:
        with OnnxRuntimeRunner(file) as runner:
            found = runner.infer(images)
        what = "cannot be quantized to INT8"
        _quantize(prepare(file), images, folder)
    except OutputError:  # of the temporary folder
        raise
    except EdgeclfError as error:
        raise ModelError(f"this backbone {what} ({error}); choose another --backbone") from None
    except Exception as error:  # what ONNX Runtime's quantizer raises for a graph that it does not understand
        raise ModelError(f"this backbone {what} ({first_sentence(error)}); choose another --backbone") from None
    return found


def _quantize(graph: onnx.ModelProto, images: np.ndarray, folder: Path) -> None:
    """Write Q/DQ files of a prepared graph in their usual forms, with ranges of the images, and run each once.

    Of a large network only the first is run.
    """
    batches = [image[None] for image in images]
    ranges = ranges_of(collect_histograms(graph, batches), "minmax")
    for name in _FLAVORS:
        flavor, file = FLAVORS[name], folder / f"{name}.onnx"
        model = write_flavor(graph, flavor, ranges, Rounding(graph, {}), form=usual_form(flavor, graph.graph))
        data = model.SerializeToString()
        if name != _FLAVORS[0] and len(data) > _LARGE:
            continue
        file.write_bytes(data)
        with HostRunner(file, name=name) as runner:
            logits = runner.infer(batches[0])
        if not np.isfinite(logits).all():
            raise ModelError(f"the {name} file gives non-finite logits of a random image")
        file.unlink()


def rounding_error(network: ImageClassifier, batches: Sequence[np.ndarray], logits: np.ndarray) -> float:
    """Return the largest difference of torch's logits from those in float64; 0 if the network cannot compute in float64."""
    import torch

    precise = copy.deepcopy(network).double()
    try:
        with torch.no_grad():
            found = np.concatenate([precise(torch.from_numpy(batch).double()).numpy() for batch in batches])
    except RuntimeError:  # a part of it is always float32
        return 0.0
    return float(np.abs(found - logits).max())
