"""Runs a network up to its head, on the images of one batch after the other."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners.base import Runner

from ...graph.host_form import HostRunner
from ...graph.inference import infer
from ...graph.onnx_file import write_onnx

if TYPE_CHECKING:
    from ...training.backbones import ImageClassifier


class FeatureExtractor:
    """Runs a network up to its head.  Use it inside ``with``.

    Without a GPU, ONNX Runtime runs it: three times as fast as torch on a CPU, equal to 1e-5.
    """

    def __init__(self, network: ImageClassifier, spec: Preprocessing) -> None:
        import torch

        self._network, self._spec = network, spec
        self._exits = contextlib.ExitStack()
        self._runner: Runner | None = None
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batch_size = 32 if self.device == "cuda" else 1

    def __enter__(self) -> FeatureExtractor:
        if self.device == "cuda":
            import torch

            self._network.eval().to("cuda").to(memory_format=torch.channels_last)
            self._exits.callback(self._network.cpu)
        else:
            from ...training.backbones import Features

            folder = self._exits.enter_context(tempfile.TemporaryDirectory(prefix="edgeclf."))
            file = Path(folder, "features.onnx")
            write_onnx(Features(self._network).eval(), self._spec, file, {})
            self._runner = self._exits.enter_context(HostRunner(file, threads=1))
        return self

    def __exit__(self, *exception: object) -> None:
        self._exits.close()

    def __call__(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Return the features, float32 [images, features], of batches, float32 [N, height, width, 3] each."""
        if self._runner is not None:
            return infer(self._runner, batches, cores())
        import torch

        with torch.no_grad():
            found = [self._network.features(torch.from_numpy(batch).to("cuda")).cpu().numpy() for batch in batches]
        return np.concatenate(found)
