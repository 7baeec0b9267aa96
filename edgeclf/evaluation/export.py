"""Exports a run's network as an ONNX file that every target reads, checked against torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.outputs import new_file
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

from ..data.pixels import load_batches
from ..errors import GateError
from ..graph.onnx_file import write_onnx
from ..progress import say
from ..report import Report
from ..targets import OPSET, model_file
from ..training.runs import Run, read_run
from .open_model import TorchRunner, model_metadata

TOLERANCE = 1e-3
"""Largest difference of a logit from torch's that is accepted."""
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
    largest_difference: float
    """Largest difference of a logit from torch's."""

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.size / 1e6:.1f} MB, opset {self.opset}, "
            f"logits within {self.largest_difference:.1e} of torch on {self.images} images"
        )


def export(run: str | Path | Run, output: str | Path | None = None, overwrite: bool = False) -> ExportReport:
    """Write a run's network as ONNX and compare its logits with torch's on real images.

    output: the file; None means model.fp32.onnx in the run.  Raises GateError, and keeps
    nothing, if a logit differs by more than TOLERANCE.
    """
    if not isinstance(run, Run):
        run = read_run(run)
    target = Path(output) if output else run.path / model_file("fp32")
    network = run.network()
    samples = run.dataset().split("val")[:_CHECKED_IMAGES]
    batches = list(load_batches([sample.path for sample in samples], run.preprocessing, 1, "checking the export"))
    with new_file(target, overwrite) as work:
        write_onnx(network, run.preprocessing, work, model_metadata(run, "fp32"))
        with OnnxRuntimeRunner(work) as runner:
            torch_runner = TorchRunner(network)
            difference = max(float(np.abs(runner.infer(batch) - torch_runner.infer(batch)).max()) for batch in batches)
        if not difference <= TOLERANCE:
            raise GateError(
                f"the exported file's logits differ from torch's by {difference:.2g}, at most {TOLERANCE} was expected; no file was kept"
            )
        return ExportReport(str(target), OPSET, Path(work).stat().st_size, sha256_file(work), len(samples), difference)


def exported(run: Run) -> Path:
    """Return a run's FP32 file, exported now if there is none."""
    path = run.path / model_file("fp32")
    if not path.is_file():
        say(f"{run.path} has no {path.name}; exporting it")
        say(str(export(run)))
    return path
