"""Extracts a frozen backbone's features, one pass per image."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.images.preprocess import Preprocessing

from ..data.datasets import Sample
from ..data.pixels import load_batches
from ..graph.inference import infer_file
from ..graph.onnx_file import write_onnx

if TYPE_CHECKING:
    from .backbones import ImageClassifier


def extract_features(network: ImageClassifier, samples: list[Sample], spec: Preprocessing, what: str) -> np.ndarray:
    """Run the backbone once over each image; returns float32 [images, features].

    what: names the work in the progress display.  Without a GPU, ONNX Runtime runs the backbone:
    three times as fast as torch on a CPU, equal to 1e-5.
    """
    import torch

    from .backbones import Features

    paths = [sample.path for sample in samples]
    if torch.cuda.is_available():
        device = torch.device("cuda")
        network = network.eval().to(device).to(memory_format=torch.channels_last)
        with torch.no_grad():
            found = [
                network.features(torch.from_numpy(batch).to(device)).cpu().numpy()
                for batch in load_batches(paths, spec, 32, what)
            ]
        network.cpu()
        return np.concatenate(found)
    with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
        file = Path(folder, "features.onnx")
        write_onnx(Features(network).eval(), spec, file, {})
        return infer_file(file, "fp32", load_batches(paths, spec, 1, what))
