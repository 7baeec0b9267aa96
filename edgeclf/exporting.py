"""From a run to an ONNX file that every target reads, checked against torch."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.files import sha256_file
from edgeclf_runtime.outputs import new_file
from edgeclf_runtime.preprocess import Preprocessing
from edgeclf_runtime.runners.ort import OnnxRuntimeRunner

from .errors import GateError, ModelError
from .loading import load_batches
from .models import TorchRunner, model_metadata
from .runs import Run, read_run
from .targets import IR_VERSIONS, OPSET

TOLERANCE = 1e-3
"""Largest difference of a logit from torch's that export accepts."""
_CHECKED_IMAGES = 8


@dataclass(frozen=True)
class ExportReport:
    """A file that was exported and checked."""

    path: str
    opset: int
    size: int
    sha256: str
    images: int
    """Real images on which it was compared with torch."""
    largest_difference: float
    """Of a logit from torch's."""

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.size / 1e6:.1f} MB, opset {self.opset}, "
            f"logits within {self.largest_difference:.1e} of torch on {self.images} images"
        )


def export(run: str | Path | Run, output: str | Path | None = None, overwrite: bool = False) -> ExportReport:
    """Write a run's network as ONNX and compare its logits with torch's on real images.

    output: the file; None means model.fp32.onnx in the run.  Raises GateError, and keeps
    nothing, where a logit differs by more than TOLERANCE.
    """
    if not isinstance(run, Run):
        run = read_run(run)
    target = Path(output) if output else run.path / "model.fp32.onnx"
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
                f"the exported file's logits differ from torch's by {difference:.2g}, at most {TOLERANCE} was expected; nothing was kept"
            )
        return ExportReport(str(target), OPSET, Path(work).stat().st_size, sha256_file(work), len(samples), difference)


def write_onnx(network: Any, spec: Preprocessing, path: str | Path, metadata: dict[str, str]) -> None:
    """Write a network that takes float32 [N, height, width, 3] as ONNX of the opset that every target reads."""
    import onnx
    import torch

    with warnings.catch_warnings():
        # torch announces that this exporter will go; the other one leaves opset 18 behind, whatever is asked for.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network,
                (torch.zeros(1, spec.height, spec.width, 3),),
                str(path),
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
                opset_version=OPSET,
                dynamo=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ModelError(
                f"this backbone has an operator that opset {OPSET} lacks, and some targets read no newer one "
                f"({str(error).splitlines()[0]}); choose another --backbone"
            ) from None
    model = onnx.load(path)
    _give_each_its_own(model.graph)
    save_model(model, path, metadata)


def _give_each_its_own(graph: Any) -> None:
    """Turn each Identity of an initializer into an initializer.

    torch writes equal weights once and hands them on by Identity nodes; the quantizer takes such a
    bias for an activation and leaves it float, which ONNX Runtime 1.10 then computes in float.
    """
    import onnx

    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Identity" and node.input[0] in stored]:
        own = onnx.TensorProto()
        own.CopyFrom(stored[node.input[0]])
        own.name = node.output[0]
        stored[own.name] = own
        graph.initializer.append(own)
        graph.node.remove(node)


def save_model(model: Any, path: str | Path, metadata: dict[str, str], opset: int = OPSET) -> None:
    """Check an ONNX model against the contract's opset and save it with edgeclf's metadata, the same bytes each time."""
    import onnx

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != opset or set(opsets) - {"", "com.microsoft"}:
        raise ModelError(
            f"the model came out with the opsets {opsets}; {opset} alone was expected, which every target of it reads"
        )
    del model.opset_import[:]
    model.opset_import.extend([onnx.helper.make_opsetid("", opset)])
    model.ir_version = IR_VERSIONS[opset]
    model.producer_name, model.producer_version = "edgeclf", ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    Path(path).write_bytes(model.SerializeToString(deterministic=True))
