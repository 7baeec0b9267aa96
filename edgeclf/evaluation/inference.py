"""A model file's logits of many images, and its time: as a device runs it, one image an inference.

A file for another machine, such as TensorRT's Q/DQ, is slow on ONNX Runtime's CPU kernels, and two
inferences of one thread each take half the time of one inference of two threads.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

from ..data.pixels import load_all, load_batches
from ..data.sampling import evenly_spaced
from ..graph.onnx_file import save_model
from ..progress import track
from ..targets import host_config, opset_of
from .comparison import Comparison, compare

_TURNS, _IN_A_TURN, _WARM_UP = 3, 10, 3


def infer_file(model: Path, name: str, paths: Sequence[Path], spec: Preprocessing, what: str) -> np.ndarray:
    """Return an ONNX file's logits of image files, float32 [images, labels].

    name: of the model, as targets.FLAVORS has it.  what: names the work in the progress.
    """
    return _infer(model, name, load_batches(paths, spec, 1, what))


@dataclass(frozen=True)
class Judges:
    """Images with known labels, and what FP32 says of them: every other file is held to it."""

    labels: tuple[str, ...]
    pixels: Sequence[np.ndarray]
    """As the model sees them, uint8 [height, width, 3] each."""
    truth: np.ndarray
    """int [images], places in ``labels``."""
    reference: np.ndarray
    """FP32's logits, float32 [images, labels]."""

    @classmethod
    def load(
        cls, source: Path, labels: tuple[str, ...], paths: Sequence[Path], truth: np.ndarray, spec: Preprocessing
    ) -> Judges:
        """Decode the images and ask the FP32 file, ``source``."""
        pixels = list(track(load_all(paths, spec), "reading the judges", len(paths)))
        reference = _infer(source, "fp32", _batches(pixels, "judging fp32"))
        return cls(labels, pixels, truth, reference)

    def __len__(self) -> int:
        return len(self.pixels)

    def first(self, count: int) -> Judges:
        """Return so many of them, evenly spaced."""
        places = evenly_spaced(len(self), count)
        return Judges(self.labels, [self.pixels[place] for place in places], self.truth[places], self.reference[places])

    def infer(self, model: Any, name: str, what: str) -> np.ndarray:
        """Return the logits of a model (onnx.ModelProto) named ``name`` in targets.FLAVORS; "" for what shows no progress."""
        with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
            path = Path(folder) / "model.onnx"
            save_model(model, path, {}, opset_of(name))
            return _infer(path, name, _batches(self.pixels, what))

    def compare(self, logits: np.ndarray) -> Comparison:
        """Hold logits, float32 [images, labels], to FP32's."""
        return compare(self.labels, self.truth, self.reference, logits)


def _infer(model: Path, name: str, batches: Iterable[np.ndarray]) -> np.ndarray:
    workers = cores()
    rows: list[np.ndarray] = []
    waiting: deque[Future[np.ndarray]] = deque()
    with (
        OnnxRuntimeRunner(model, threads=1, config=host_config(name)) as runner,
        ThreadPoolExecutor(workers) as pool,
    ):
        for batch in batches:
            waiting.append(pool.submit(runner.infer, batch))
            if len(waiting) > 2 * workers:
                rows.append(waiting.popleft().result())
        rows += [future.result() for future in waiting]
    return np.concatenate(rows)


def _batches(pixels: Sequence[np.ndarray], what: str) -> Iterator[np.ndarray]:
    for image in track(pixels, what, len(pixels)) if what else pixels:
        yield as_batch([image])


def time_files(models: Sequence[tuple[str, Path]], batch: np.ndarray) -> list[float]:
    """Return each ONNX file's time of one inference, in milliseconds: the median, the files taking turns.

    models: the name in targets.FLAVORS, and the file.  batch: float32 [1, height, width, 3].  ONNX Runtime
    chooses the number of threads.
    """
    samples: list[list[float]] = [[] for _ in models]
    for _ in range(_TURNS):
        for place, (name, path) in enumerate(models):
            with OnnxRuntimeRunner(path, config=host_config(name)) as runner:
                for number in range(_WARM_UP + _IN_A_TURN):
                    start = time.perf_counter()
                    runner.infer(batch)
                    if number >= _WARM_UP:
                        samples[place].append((time.perf_counter() - start) * 1e3)
    return [round(float(np.median(values)), 3) for values in samples]
