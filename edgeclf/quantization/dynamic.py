"""Dynamic quantization of the linear layers, which tutorials show first: measured for comparison, never shipped.

It turns the weights of linear layers into INT8 and works out the ranges of their inputs at each inference, so it needs
no calibration; convolutions, nearly all of an image classifier, stay float, and its file runs by torch alone.
"""

from __future__ import annotations

import io
import time
import warnings

import numpy as np

from edgeclf_runtime.images.preprocess import as_batch

from ..errors import DependencyError
from ..evaluation.inference import Judges
from ..evaluation.opening import TorchRunner
from ..progress import track
from ..training.runs import Run
from .report import Baseline

NAME = "torch dynamic"
_IMAGES, _TIMED = 32, 20


def measure_baseline(run: Run, judges: Judges) -> Baseline:
    """Quantize a run's network by torch's ``quantize_dynamic`` and hold it to FP32.

    Raises DependencyError where this torch has it no more.
    """
    import torch

    quantize_dynamic = getattr(torch.ao.quantization, "quantize_dynamic", None)
    if quantize_dynamic is None:
        raise DependencyError(
            f"torch {torch.__version__} has no torch.ao.quantization.quantize_dynamic: leave out --baseline, or install torch 2.15"
        )
    with warnings.catch_warnings():
        # It is announced to move to another package.
        warnings.simplefilter("ignore")
        network = quantize_dynamic(run.network().eval(), {torch.nn.Linear}, dtype=torch.qint8)
    runner = TorchRunner(network)
    parts = [judges.pixels[i : i + _IMAGES] for i in range(0, len(judges), _IMAGES)]
    logits = np.concatenate([runner.infer(as_batch(part)) for part in track(parts, f"judging {NAME}", len(parts))])
    stored = io.BytesIO()
    torch.save(network.state_dict(), stored)
    times = []
    for pixels in judges.first(_TIMED).pixels:
        start = time.perf_counter()
        runner.infer(as_batch([pixels]))
        times.append((time.perf_counter() - start) * 1e3)
    return Baseline(
        **vars(judges.compare(logits)),
        name=NAME,
        size=len(stored.getvalue()),
        latency_ms=round(float(np.median(times)), 3),
    )
