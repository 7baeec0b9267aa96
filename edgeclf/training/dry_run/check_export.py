"""Checks that a network can be exported and quantized, with random images."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.images.preprocess import Preprocessing

from ...data.temporary import temporary_folder
from ...errors import EdgeclfError, ModelError, OutputError, first_sentence
from ...graph.fp16 import halve, halve_remainder
from ...graph.host_form import HostRunner
from ...graph.int8.activations import collect_histograms
from ...graph.int8.forms import usual_form
from ...graph.int8.qdq import write_flavor
from ...graph.int8.ranges import Ranges, ranges_of
from ...graph.int8.rounding import Rounding
from ...graph.onnx_file import complete, onnx_of
from ...graph.prepare import prepare_model, without_weights
from ...targets import FLAVORS, opset_of

if TYPE_CHECKING:
    import onnx

    from ..architecture import ImageClassifier

ROUNDING = 3.0
"""A difference from torch may also be this multiple of torch's own rounding error, which random weights can make large."""
TRIED = {
    "int8-cpu": ("int8-cpu", "int8-openvino", "int8-arm"),
    "int8-tensorrt": ("int8-tensorrt",),
    "int8-fp16": ("int8-fp16",),
    "fp16": ("fp16",),
}
"""Flavors that are tried, and those that each stands for, which have the same Q/DQ pairs in other types."""
# Largest difference of a logit from torch's, relative to the largest logit.
_TOLERANCE = 1e-2
_LARGE = 40_000_000
"""Weights of a model that takes seconds to convert and to load, such as ViT-B."""
_FLOAT, _FP16, _INT8 = "does not run as ONNX", "cannot be converted to FP16", "cannot be quantized to INT8"


def check_export(network: ImageClassifier, spec: Preprocessing, flavors: Sequence[str] = tuple(TRIED)) -> None:
    """Raise ModelError for a network that cannot be exported or converted, or does not give torch's logits then.

    flavors: those of TRIED to convert to.  Two images at once show a batch size that was written as a constant.
    """
    import torch

    images = np.random.default_rng(0).integers(0, 256, (2, spec.height, spec.width, 3)).astype(np.float32)
    # Not inference_mode: what a network keeps of it, such as ConViT's positions, could not be trained with.
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(images)).numpy()
    graph = _exported(network, spec)
    ranges, found = _observed(graph, images)
    written: dict[str, onnx.ModelProto] = {}
    for name in flavors:
        with _refusing(_INT8 if FLAVORS[name].activations else _FP16):
            _try_flavor(graph, ranges, name, images[:1], written)
    largest = max(1e-6, float(np.abs(expected).max()))
    difference, limit = float(np.abs(found - expected).max()), _TOLERANCE * largest
    if not difference <= limit:
        limit = max(limit, ROUNDING * rounding_error(network, [images], expected))
    if not difference <= limit:
        raise ModelError(
            f"the logits of this backbone's ONNX file differ from torch's by {difference / largest:.1%} of the largest one, at "
            f"most {limit / largest:.0%} was expected; choose another --backbone"
        )


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turn an error in the block into a ModelError that says what this backbone does."""
    try:
        yield
    except OutputError:  # of the temporary folder
        raise
    except EdgeclfError as error:
        raise ModelError(f"this backbone {what} ({error}); choose another --backbone") from None
    except Exception as error:  # what ONNX and ONNX Runtime raise for a graph that they do not understand
        raise ModelError(f"this backbone {what} ({first_sentence(error)}); choose another --backbone") from None


def _exported(network: ImageClassifier, spec: Preprocessing) -> onnx.ModelProto:
    """Return the network as an ONNX model that was checked and prepared."""
    import onnx

    model = onnx_of(network, spec)
    with _refusing(_FLOAT):
        complete(model, {})
        onnx.checker.check_model(without_weights(model))
        return prepare_model(model)


def _observed(graph: onnx.ModelProto, images: np.ndarray) -> tuple[Ranges, np.ndarray]:
    """Return the range of each activation, and FP32's logits, from one inference."""
    logits: list[np.ndarray] = []
    try:
        histograms = collect_histograms(graph, [images], logits)
    except Exception as error:
        with _refusing(_INT8 if isinstance(error, ModelError) else _FLOAT):
            raise
    return ranges_of(histograms, "minmax"), logits[0]


def _try_flavor(
    graph: onnx.ModelProto, ranges: Ranges, name: str, image: np.ndarray, written: dict[str, onnx.ModelProto]
) -> None:
    """Write a flavor in its usual form, and run it once; ``written``: the flavors so far.

    Of a large model, only the flavor for processors is run: its file is the smallest.  int8-fp16 is int8-tensorrt with the rest as
    in fp16, which are written.
    """
    flavor, large = FLAVORS[name], sum(math.prod(tensor.dims) for tensor in graph.graph.initializer) > _LARGE
    if large and flavor.half_of:
        return
    if flavor.activations is None:
        model = halve(graph, ranges)
    elif flavor.half_of in written:
        model = halve_remainder(written[flavor.half_of], ranges)
    else:
        model = write_flavor(graph, flavor, ranges, Rounding(graph, {}), form=usual_form(flavor, graph.graph))
    complete(model, {}, opset_of(name))
    if large and "tensorrt" in flavor.backends:
        return
    written[name] = model
    with temporary_folder() as folder:
        file = Path(folder, f"{name}.onnx")
        file.write_bytes(model.SerializeToString())
        with HostRunner(file, name=name) as runner:
            logits = runner.infer(image)
    if not np.isfinite(logits).all():
        raise ModelError(f"the {name} file gives non-finite logits of a random image")


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
