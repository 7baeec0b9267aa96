"""Extracts a frozen backbone's features, one pass per image."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.bundle.model_file import model_bytes
from edgeclf_runtime.files.outputs import new_file
from edgeclf_runtime.images.preprocess import Preprocessing

from ..data.datasets import Sample
from ..data.pixels import in_batches, load_all, load_batches
from ..data.temporary import temporary_folder
from ..display.progress import track
from ..errors import OptionError
from ..graph.features import features_only
from ..graph.inference import infer_file_each
from ..graph.onnx_file import save_model, write_onnx
from ..options import TrainOptions
from ..targets import model_file

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import nn

    from .architecture import ImageClassifier
    from .augmentation import Augmentation
    from .runs import Run

    Backbone = ImageClassifier | onnx.ModelProto

_GPU_BATCH = 32
_SURE_S = 3.0
"""After so many seconds, the time of the rest is known well enough."""


def backbone_of(run: Run) -> Backbone:
    """Return what computes a run's features: its network, or, of an imported run, its graph up to the head.

    Raises ModelError for a graph without a linear head.
    """
    if not run.imported:
        return run.network()
    import onnx

    return features_only(onnx.load_from_string(model_bytes(run.file(model_file("fp32")))))


def extract_features(backbone: Backbone, samples: list[Sample], spec: Preprocessing, what: str) -> np.ndarray:
    """Run a backbone once over each image; returns float32 [images, features].

    what: names the work in the progress display.
    """
    device = device_of(TrainOptions())
    paths = [sample.path for sample in samples]
    batches = load_batches(paths, spec, images_at_once(backbone, device), what)
    return np.concatenate(list(run_backbone(backbone, batches, spec, device)))


def images_at_once(backbone: Backbone, device: torch.device) -> int:
    """Return how many images run_backbone() takes at once; a graph may be of a single image."""
    from .architecture import ImageClassifier

    return batch_of(device) if isinstance(backbone, ImageClassifier) else 1


def run_backbone(
    backbone: Backbone, batches: Iterable[np.ndarray], spec: Preprocessing, device: torch.device
) -> Iterator[np.ndarray]:
    """Yield the features of each batch, float32 [N, features]; a graph runs on the CPU."""
    from .architecture import Features, ImageClassifier

    if isinstance(backbone, ImageClassifier):
        yield from run_network(Features(backbone), batches, spec, device)
        return
    with features_file(backbone, spec) as file:
        yield from infer_file_each(file, "fp32", batches)


@contextmanager
def features_file(backbone: Backbone, spec: Preprocessing) -> Iterator[Path]:
    """Yield a temporary ONNX file that computes a backbone's features as run_backbone() does on the CPU."""
    from .architecture import Features, ImageClassifier

    with temporary_folder() as folder:
        file = Path(folder, "features.onnx")
        if isinstance(backbone, ImageClassifier):
            write_onnx(Features(backbone).eval(), spec, file, {})
        else:
            save_model(backbone, file, {})
        yield file


def cache_features(
    network: ImageClassifier,
    paths: Sequence[Path],
    spec: Preprocessing,
    file: Path,
    what: str,
    device: torch.device,
    changes: tuple[Augmentation, int, int] | None = None,
    deadline: float | None = None,
) -> np.ndarray:
    """Write a backbone's features to a .npy file, unless that exists, and return them without reading them.

    changes: an augmentation, the number of augmented views of each image besides the image itself, and a seed.  deadline: of
    time.monotonic(); OptionError if it will evidently be missed.  Returns float32
    [views x images, features], view by view, from disk, so that 100,000 images need no memory.
    """
    from .architecture import Features

    if not file.is_file():
        rows = ((changes[1] if changes else 0) + 1) * len(paths)
        batches = _batches(paths, spec, what, batch_of(device), changes)
        found = run_network(Features(network), batches, spec, device)
        write_rows(file, (rows, network.head.in_features), found, deadline)
    cached: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    return cached


def write_rows(file: Path, shape: tuple[int, int], parts: Iterable[np.ndarray], deadline: float | None = None) -> None:
    """Write float32 rows to a .npy file as they come; deadline: see :func:`cache_features`."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    # Not a memory map: on a full disk, that would end the process.
    with new_file(file, durable=False) as work, open(work, "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        start, done = time.monotonic(), 0
        for found in parts:
            stream.write(np.ascontiguousarray(found, "<f4").data)
            done += len(found)
            if deadline is not None:
                _check_time(start, done / shape[0], deadline)


def batch_of(device: torch.device) -> int:
    """Return how many images a pass over them takes at once."""
    return _GPU_BATCH if device.type == "cuda" else 1


def _check_time(start: float, share: float, deadline: float) -> None:
    """Raise OptionError if the pass over the images will not end in time."""
    now = time.monotonic()
    needed_s = (now - start) / share
    if now > deadline or (now - start > _SURE_S and start + needed_s > deadline):
        raise OptionError(
            f"minutes is too short: one pass over the images takes about {needed_s / 60:.1f} minutes here; give more minutes, "
            "or use a smaller --image-size"
        )


def device_of(options: TrainOptions) -> torch.device:
    """Return the device that training uses; OptionError if a GPU is requested but there is none."""
    import torch

    found = torch.cuda.is_available()
    if options.device == "cuda" and not found:
        raise OptionError("device is cuda, but torch finds no GPU; use --device cpu, or install torch with CUDA")
    return torch.device("cuda" if found and options.device != "cpu" else "cpu")


def _batches(
    paths: Sequence[Path], spec: Preprocessing, what: str, size: int, changes: tuple[Augmentation, int, int] | None
) -> Iterator[np.ndarray]:
    if changes is None:
        return load_batches(paths, spec, size, what)
    return in_batches(_views(paths, spec, what, *changes), size)


def _views(
    paths: Sequence[Path], spec: Preprocessing, what: str, transform: Augmentation, views: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield all images as they are, and then augmented, view by view."""
    import torch

    from .loop.loaders import augmented, epoch_seed

    pixels = load_all([path for _ in range(views + 1) for path in paths], spec)
    for number, image in enumerate(track(pixels, what, (views + 1) * len(paths))):
        view, index = divmod(number, len(paths))
        seeds = epoch_seed(seed, view, index)
        yield augmented(torch.from_numpy(image), transform, seeds).numpy() if view else image


def run_network(
    network: nn.Module, batches: Iterable[np.ndarray], spec: Preprocessing, device: torch.device
) -> Iterator[np.ndarray]:
    """Yield the output of each batch.

    Without a GPU, ONNX Runtime runs the backbone: it is faster than torch on a CPU, with equal features (benchmarks/NOTES.md).
    """
    import torch

    if device.type == "cuda":
        network = network.eval().to(device).to(memory_format=torch.channels_last)
        with torch.no_grad():
            for batch in batches:
                yield network(torch.from_numpy(batch).to(device)).cpu().numpy()
        network.cpu()
        return
    with temporary_folder() as folder:
        file = Path(folder, "features.onnx")
        write_onnx(network.eval(), spec, file, {})
        yield from infer_file_each(file, "fp32", batches)
