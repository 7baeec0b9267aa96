"""Dynamic quantization of the linear layers, which tutorials show first: measured for comparison, never shipped.

It stores the weights of linear layers as INT8 and computes the ranges of their inputs at each inference, so it needs no
calibration.  Convolutions, nearly all of an image classifier, stay float, and only torch runs the result.
"""

from __future__ import annotations

import io
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.images.preprocess import as_batch

from ...data.sampling import evenly_spaced
from ...errors import DependencyError
from ...evaluation.evaluation_set import EvaluationSet
from ...evaluation.open_model import TorchRunner

if TYPE_CHECKING:
    from ...training.architecture import ImageClassifier

DYNAMIC = "torch dynamic"
_IMAGES, _TIMED = 32, 20


def infer_dynamic(network: ImageClassifier, images: EvaluationSet) -> tuple[np.ndarray, int, float]:
    """Quantize a network with torch's ``quantize_dynamic``; returns logits, size in bytes, and milliseconds an inference.

    The logits are float32 [images, labels].  Raises DependencyError if this torch no longer has ``quantize_dynamic``.
    """
    import torch

    quantize_dynamic = getattr(torch.ao.quantization, "quantize_dynamic", None)
    if quantize_dynamic is None:
        raise DependencyError(
            f"torch {torch.__version__} has no torch.ao.quantization.quantize_dynamic: leave out --baseline, or install torch 2.15"
        )
    with warnings.catch_warnings():
        # torch announces that it will move to another package.
        warnings.simplefilter("ignore")
        network = quantize_dynamic(network.eval(), {torch.nn.Linear}, dtype=torch.qint8)
    runner = TorchRunner(network)
    pixels = list(images.pixels(f"evaluating {DYNAMIC}"))
    parts = [pixels[i : i + _IMAGES] for i in range(0, len(pixels), _IMAGES)]
    logits = np.concatenate([runner.infer(as_batch(part)) for part in parts])
    stored = io.BytesIO()
    torch.save(network.state_dict(), stored)
    times = []
    for index in evenly_spaced(len(pixels), _TIMED):
        start = time.perf_counter()
        runner.infer(as_batch([pixels[index]]))
        times.append((time.perf_counter() - start) * 1e3)
    return logits, len(stored.getvalue()), round(float(np.median(times)), 3)
