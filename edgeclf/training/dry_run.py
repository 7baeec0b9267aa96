"""Exports a network before it is trained, so that hours are not spent on one that no device can run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

from ..data.temporary import temporary_folder
from ..errors import EdgeclfError, ModelError, OutputError, first_sentence
from ..graph.onnx_file import prepare, write_onnx

if TYPE_CHECKING:
    from .backbones import ImageClassifier

ROUNDING = 3.0
"""A difference from torch may also be this multiple of torch's own rounding error, which random weights can make large."""
# Largest difference of a logit from torch's, relative to the largest logit.
_TOLERANCE = 1e-2


def check_export(network: ImageClassifier, spec: Preprocessing) -> None:
    """Raise ModelError for a network that cannot be exported, prepared for INT8, or does not give torch's logits then.

    Two images at once show a batch size that was written as a constant.
    """
    import torch

    images = np.random.default_rng(0).integers(0, 256, (2, spec.height, spec.width, 3)).astype(np.float32)
    # Not inference_mode: what a network keeps of it, such as ConViT's positions, could not be trained with.
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(images)).numpy()
    with temporary_folder() as folder:
        file = Path(folder, "model.onnx")
        try:
            write_onnx(network, spec, file, {})
            prepare(file)
            with OnnxRuntimeRunner(file) as runner:
                found = runner.infer(images)
        except (ModelError, OutputError):
            raise
        except EdgeclfError as error:
            raise ModelError(f"this backbone does not run as ONNX ({error}); choose another --backbone") from None
        except Exception as error:  # what the quantizer's preparation raises for a graph that it does not understand
            raise ModelError(
                f"this backbone cannot be prepared for INT8 ({first_sentence(error)}); choose another --backbone"
            ) from None
    largest = max(1e-6, float(np.abs(expected).max()))
    difference, limit = float(np.abs(found - expected).max()), _TOLERANCE * largest
    if not difference <= limit:
        limit = max(limit, ROUNDING * rounding_error(network, [images], expected))
    if not difference <= limit:
        raise ModelError(
            f"the logits of this backbone's ONNX file differ from torch's by {difference / largest:.1%} of the largest one, at "
            f"most {limit / largest:.0%} was expected; choose another --backbone"
        )


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
