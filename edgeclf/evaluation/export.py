"""Exports a run's network as an ONNX file that every target reads, checked against torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.outputs import new_file
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch
from edgeclf_runtime.runners.base import Runner
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

from ..data.datasets import Dataset
from ..data.pixels import load_pixels
from ..data.temporary import temporary_folder
from ..display.progress import say
from ..display.report import Bars, Report
from ..errors import GateError, ImageError, ModelError, OptionError
from ..graph.features import reporting_features
from ..graph.onnx_file import write_onnx
from ..options import ExportOptions, merged
from ..targets import OPSET, model_file
from ..training.dry_run.check_export import ROUNDING, rounding_error
from ..training.machine.threads import torch_threads
from ..training.runs import RUN_FILE, Run, read_run
from .metadata import model_metadata
from .open_model import OpenModel, TorchRunner, open_export, open_model

if TYPE_CHECKING:
    from ..training.architecture import ImageClassifier

TOLERANCE = 1e-3
"""Largest difference of a logit from torch's that is accepted, as a multiple of the largest logit if that is above 1."""
_CHECKED_IMAGES = 8


@dataclass(frozen=True)
class ExportReport(Report):
    """An exported and checked file."""

    path: str
    opset: int
    size: int
    sha256: str
    images: int
    """Images on which it was compared with torch."""
    noise: bool
    """True if these are random pixels, because the run's images are not here."""
    largest_difference: float
    """Largest difference of a logit from torch's."""

    def bars(self) -> Iterator[Bars]:
        """Yield the largest difference of a logit from torch's beside the accepted one, and the size."""
        differences = {"largest found": self.largest_difference, "largest accepted": TOLERANCE}
        yield Bars("difference of a logit", differences, "{:.1e}")
        yield Bars("size, MB", {Path(self.path).name: self.size / 1e6}, "{:.1f}")

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.size / 1e6:.1f} MB, opset {self.opset}, "
            f"logits within {self.largest_difference:.1e} of torch on {self.images} images"
            + (" of random pixels" if self.noise else "")
        )


def export(
    run: str | Path | Run,
    output: str | Path | None = None,
    options: ExportOptions | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> ExportReport:
    """Write a run's network as ONNX and compare its logits with torch's on real images, or on noise if there are none.

    output: the file; None means model.fp32.onnx in the run.  The option ``data`` may also be a Dataset: the run's images, if
    they were found already.

    Raises OptionError for other formats and golden tensors, which export_formats() writes; GateError, and keeps nothing, if a
    logit differs by more than TOLERANCE and float32's rounding.
    """
    options = merged(ExportOptions, options, keywords)
    if options.golden or options.formats not in ((), ("onnx",)):
        asked = "golden" if options.golden else f"format {', '.join(options.formats)}"
        raise OptionError(f"export() writes ONNX only, but {asked} was given; call edgeclf.export_formats()")
    if not isinstance(run, Run):
        run = read_run(run)
    data = options.data if isinstance(options.data, Dataset) else run.images_here(options.data)
    target = Path(output) if output else run.path / model_file("fp32")
    network = run.network()
    batches, noise = comparison_images(data, run.preprocessing)
    with torch_threads(), new_file(target, overwrite) as work:
        write_onnx(network, run.preprocessing, work, model_metadata(run, "fp32"), reporting_features)
        torch_runner = TorchRunner(network)
        expected = np.concatenate([torch_runner.infer(batch) for batch in batches])
        with OnnxRuntimeRunner(work) as runner:
            difference = checked_difference(runner, batches, expected, network)
        return ExportReport(
            str(target), OPSET, Path(work).stat().st_size, sha256_file(work), len(batches), noise, difference
        )


def checked_difference(
    runner: Runner, batches: Sequence[np.ndarray], expected: np.ndarray, network: ImageClassifier | None
) -> float:
    """Return the largest difference of a file's logits from those expected.

    network: their torch network, whose own rounding error is allowed too, if there is one.  Raises GateError if the
    difference is larger than TOLERANCE and that error.
    """
    difference = float(np.abs(np.concatenate([runner.infer(batch) for batch in batches]) - expected).max())
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= limit and network is not None:
        limit = max(limit, ROUNDING * rounding_error(network, batches, expected))
    if not difference <= limit:
        raise GateError(
            f"the exported file's logits differ from torch's by {difference:.2g}, at most {limit:.2g} was expected; no "
            "file was kept"
        )
    return difference


def comparison_images(data: Dataset | None, spec: Preprocessing) -> tuple[list[np.ndarray], bool]:
    """Return a few images, each float32 [1, height, width, 3], and whether they are random pixels, since none can be read.

    They are of val if there are any there.
    """
    found = [] if data is None else _photographs(data, spec)
    return [as_batch([pixels]) for pixels in found or _noise(spec)], not found


def _photographs(data: Dataset, spec: Preprocessing) -> list[np.ndarray]:
    """Return a few images, uint8 [height, width, 3]; [] if none can be decoded."""
    samples = sorted(data.samples, key=lambda sample: sample.split != "val")
    found: list[np.ndarray] = []
    for sample in samples:
        if len(found) == _CHECKED_IMAGES:
            break
        with contextlib.suppress(ImageError):  # others are as good
            found.append(load_pixels(sample.path, spec))
    return found


def _noise(spec: Preprocessing) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (spec.height, spec.width, 3), np.uint8) for _ in range(_CHECKED_IMAGES)]


def exported(run: Run, data: Dataset | None = None) -> Path:
    """Return a run's FP32 file, exported now if there is none; data: the run's images, if they were found already."""
    path = run.path / model_file("fp32")
    if not path.is_file():
        say("the FP32 file is missing, and is exported first")
        export(run, data=data)
    return path


@contextlib.contextmanager
def open_exported(
    model: str | Path, name: str | None = None, top_k: int = 5, threshold: float | None = None, at_once: int = 1
) -> Iterator[OpenModel]:
    """Open a model as open_model() does, but a run that has no FP32 file by a temporary one, which infers faster than torch.

    ``name`` "torch" is torch.  If the run cannot be exported, torch is used, with a warning.
    """
    path = Path(model)
    run = read_run(path) if name is None and (path / RUN_FILE).is_file() else None
    if run is None or run.imported:
        with open_model(model, name, top_k, threshold, at_once) as opened:
            yield opened
        return
    with (
        temporary_folder() as folder,
        open_export(run, top_k, threshold or 0.0, at_once)
        or _open_temporary(run, Path(folder), top_k, threshold, at_once) as opened,
    ):
        yield opened


def _open_temporary(run: Run, folder: Path, top_k: int, threshold: float | None, at_once: int) -> OpenModel:
    try:
        file = Path(export(run, folder / model_file("fp32")).path)
    except (GateError, ModelError) as error:
        say(f"warning: {run.path} runs on torch, which is slower, since it cannot be exported: {error}")
        return open_model(run.path, "torch", top_k, threshold)
    return replace(open_model(file, None, top_k, threshold, at_once), run=run)
