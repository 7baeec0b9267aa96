"""A model file's logits of many images, and its time: as a device runs it, one image an inference.

A file for another machine, such as TensorRT's Q/DQ, is slow on ONNX Runtime's CPU kernels, and two
inferences of one thread each take half the time of one inference of two threads.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.preprocess import Preprocessing
from edgeclf_runtime.runners.ort import OnnxRuntimeRunner

from .exporting import save_model
from .gating import Comparison, compare
from .loading import load_batches
from .targets import is_foreign

# Without VNNI, x86 kernels add S8S8 products in 16 bits, which overflow; this asks for the slower, right ones.
_EXACT = {"session.x64quantprecision": "1"}
_TURNS, _IN_A_TURN, _WARM_UP = 3, 10, 3


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


@dataclass(frozen=True)
class Judges:
    """Images with known labels, and what FP32 says of them: every other file is held to it."""

    labels: tuple[str, ...]
    paths: Sequence[Path]
    truth: np.ndarray
    """int [images], places in ``labels``."""
    reference: np.ndarray
    """FP32's logits, float32 [images, labels]."""
    spec: Preprocessing

    def __len__(self) -> int:
        return len(self.paths)

    def first(self, count: int) -> Judges:
        """Return so many of them, evenly spaced."""
        places = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)
        paths = [self.paths[place] for place in places]
        return Judges(self.labels, paths, self.truth[places], self.reference[places], self.spec)

    def infer(self, model: Any, name: str, what: str = "") -> np.ndarray:
        """Return the logits of a model (onnx.ModelProto) named ``name`` in targets.FLAVORS."""
        with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
            path = Path(folder) / "model.onnx"
            save_model(model, path, {})
            return infer_file(path, self.paths, self.spec, what or f"judging {name}", is_foreign(name))

    def compare(self, logits: np.ndarray) -> Comparison:
        """Hold logits, float32 [images, labels], to FP32's."""
        return compare(self.labels, self.truth, self.reference, logits)


def time_files(models: Mapping[str, Path], batch: np.ndarray) -> dict[str, float]:
    """Return each ONNX file's time of one inference, in milliseconds: the median, the files taking turns.

    batch: float32 [1, height, width, 3].  ONNX Runtime chooses the number of threads.
    """
    samples: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(_TURNS):
        for name, path in models.items():
            with OnnxRuntimeRunner(path) as runner:
                for number in range(_WARM_UP + _IN_A_TURN):
                    start = time.perf_counter()
                    runner.infer(batch)
                    if number >= _WARM_UP:
                        samples[name].append((time.perf_counter() - start) * 1e3)
    return {name: round(float(np.median(values)), 3) for name, values in samples.items()}
