"""What a model's activations do over a calibration set: looked at once, used by every flavour and every range method.

Knows nothing of Q/DQ or of accuracy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.machine import quota_cores
from edgeclf_runtime.model_file import model_bytes

from .errors import ModelError, OptionError
from .histograms import Histogram
from .range_methods import METHODS
from .reporting import track

Ranges = dict[str, tuple[float, float]]
"""Smallest and largest value of each activation, by the tensor's name."""
INPUT = "image"


def prepare(source: Path) -> Any:
    """Return a model file as onnx.ModelProto with the inferred shapes that the quantizer needs.

    Raises BackendError if it refers to other files.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
        # A copy of what was checked, where no other file is beside it.
        copy, output = Path(folder) / "model.onnx", Path(folder) / "prepared.onnx"
        copy.write_bytes(model_bytes(source))
        quant_pre_process(copy, output, skip_symbolic_shape=True, skip_optimization=True)
        return onnx.load(output)


def collect_histograms(model: Any, batches: Sequence[np.ndarray]) -> dict[str, Histogram]:
    """Return the histogram of every activation over the images.

    model: onnx.ModelProto.  batches: float32 [1, height, width, 3] each, a sequence that can be read again.
    Raises ModelError, which names the layer, for an activation that is infinite or not a number.
    """
    check_sequence(batches)
    fused = _fused(model.graph)
    names = [name for name in _activations(model.graph) if name not in fused]
    session = probing_session(model, names)
    histograms = {name: Histogram() for name in (INPUT, *names)}
    for turn, batch in enumerate(track(batches, "calibrating", len(batches))):
        for name, values in zip((INPUT, *names), (batch, *session.run(names, {INPUT: batch})), strict=True):
            try:
                histograms[name].add(values, turn)
            except ValueError as error:
                raise ModelError(f"{_maker(model.graph, name)} gives {error} on calibration image {turn + 1}") from None
    return {**histograms, **{name: histograms[activated] for name, activated in fused.items()}}


def ranges_of(histograms: dict[str, Histogram], method: str) -> Ranges:
    """Return each activation's range by one of range_methods.METHODS."""
    # One object may stand for a layer and its activation function.
    found = {id(histogram): METHODS[method](histogram) for histogram in histograms.values()}
    return {name: found[id(histogram)] for name, histogram in histograms.items()}


def check_sequence(batches: Any) -> None:
    """Raise OptionError for a generator: it is empty when it is read for the second time."""
    if not hasattr(batches, "__len__") or not hasattr(batches, "__getitem__"):
        raise OptionError(
            f"calibration batches are a {type(batches).__name__}, which can be read once alone; "
            "they are read several times: give a list, or CalibrationSet.batches()"
        )


def probing_session(model: Any, names: Sequence[str]) -> Any:
    """Return an ONNX Runtime session whose outputs are the named tensors, too, with as many threads as may run here."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = quota_cores() or 0  # 0: it counts the processors
    return onnxruntime.InferenceSession(with_outputs(model, names), options, providers=["CPUExecutionProvider"])


def with_outputs(model: Any, names: Sequence[str]) -> bytes:
    """Return a model, serialized, whose outputs are the named tensors beside its own."""
    import onnx

    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    own = {output.name for output in probed.graph.output}
    probed.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in own
    )
    return bytes(probed.SerializeToString())


def _activations(graph: Any) -> list[str]:
    """Return the float tensors that nodes hand to each other, and the logits."""
    kinds = {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.output)}
    made = [name for node in graph.node if node.op_type != "Constant" for name in node.output if name]
    return [name for name in made if kinds.get(name, 1) == 1]


def _fused(graph: Any) -> dict[str, str]:
    """Return, for each tensor that an activation function alone reads, that function's output: backends make them one."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in graph.output}
    return {
        name: nodes[0].output[0]
        for name, nodes in readers.items()
        if len(nodes) == 1
        and nodes[0].op_type in ("Clip", "Relu")
        and nodes[0].input[0] == name
        and name not in outputs
        if name != INPUT
    }


def _maker(graph: Any, name: str) -> str:
    node = next((node for node in graph.node if name in node.output), None)
    return f"the layer {node.name} ({node.op_type})" if node else f"the input {name}"
