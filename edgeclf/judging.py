"""A model file's logits of many images: one image an inference, as on a device, and as many at once as there are cores.

A file for another machine, such as TensorRT's Q/DQ, is slow on ONNX Runtime's CPU kernels, and two
inferences of one thread each take half the time of one inference of two threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from edgeclf_runtime.preprocess import Preprocessing
from edgeclf_runtime.runners.ort import OnnxRuntimeRunner

from .loading import load_batches

# Without VNNI, x86 kernels add S8S8 products in 16 bits, which overflow; this asks for the slower, right ones.
_EXACT = {"session.x64quantprecision": "1"}


def infer_file(model: Path, paths: Sequence[Path], spec: Preprocessing, what: str, exact: bool = False) -> np.ndarray:
    """Return an ONNX file's logits of image files, float32 [images, labels]; ``what`` names the work in the progress.

    exact: for a file of another processor, whose sums do not overflow as an x86's without VNNI do.
    """
    workers = os.cpu_count() or 1
    rows: list[np.ndarray] = []
    waiting: deque[Future[np.ndarray]] = deque()
    with (
        OnnxRuntimeRunner(model, threads=1, config=_EXACT if exact else None) as runner,
        ThreadPoolExecutor(workers) as pool,
    ):
        for batch in load_batches(paths, spec, 1, what):
            waiting.append(pool.submit(runner.infer, batch))
            if len(waiting) > 2 * workers:
                rows.append(waiting.popleft().result())
        rows += [future.result() for future in waiting]
    return np.concatenate(rows)
