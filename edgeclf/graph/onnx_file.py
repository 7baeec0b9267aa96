"""Writes ONNX files from torch, checks and saves them, prepares them for quantization, and exposes their tensors."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeclf_runtime.bundle.model_file import model_bytes
from edgeclf_runtime.device.machine import quota_cores
from edgeclf_runtime.images.preprocess import Preprocessing

from ..errors import ModelError
from ..targets import IR_VERSIONS, OPSET

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    import torch

INPUT = "image"


def write_onnx(network: torch.nn.Module, spec: Preprocessing, path: str | Path, metadata: dict[str, str]) -> None:
    """Write a network that takes float32 [N, height, width, 3] as ONNX, with the opset that every target reads."""
    import onnx
    import torch

    with warnings.catch_warnings():
        # torch announces the end of this exporter; the other one writes opset 18, whatever is requested.
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
                f"this backbone has an operator that opset {OPSET} lacks, and some targets read no newer opset "
                f"({str(error).splitlines()[0]}); choose another --backbone"
            ) from None
    model = onnx.load(path)
    _give_each_its_own(model.graph)
    save_model(model, path, metadata)


def _give_each_its_own(graph: onnx.GraphProto) -> None:
    """Turn each Identity of an initializer into an initializer.

    torch writes equal weights once and passes them on through Identity nodes.  The quantizer takes such a bias for an
    activation and leaves it float, and ONNX Runtime 1.10 then computes the layer in float.
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


def save_model(model: onnx.ModelProto, path: str | Path, metadata: dict[str, str], opset: int = OPSET) -> None:
    """Check an ONNX model against the contract's opset and save it with edgeclf's metadata, the same bytes each time."""
    import onnx

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != opset or set(opsets) - {"", "com.microsoft"}:
        raise ModelError(
            f"the model has the opsets {opsets}; only {opset} was expected, which every one of its targets reads"
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


def prepare(source: Path) -> onnx.ModelProto:
    """Return a model file as onnx.ModelProto with the inferred shapes that the quantizer needs.

    Raises BackendError if it refers to other files.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
        # A copy of the checked bytes, with no other file beside it.
        copy, output = Path(folder) / "model.onnx", Path(folder) / "prepared.onnx"
        copy.write_bytes(model_bytes(source))
        quant_pre_process(copy, output, skip_symbolic_shape=True, skip_optimization=True)
        return onnx.load(output)


def probing_session(model: onnx.ModelProto, names: Sequence[str]) -> onnxruntime.InferenceSession:
    """Return an ONNX Runtime session that also outputs the named tensors, with as many threads as may run here."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = quota_cores() or 0  # 0: it counts the processors
    return onnxruntime.InferenceSession(with_outputs(model, names), options, providers=["CPUExecutionProvider"])


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """Return a serialized model that outputs the named tensors in addition to its own."""
    import onnx

    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    own = {output.name for output in probed.graph.output}
    probed.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in own
    )
    return bytes(probed.SerializeToString())
