"""Collects the histograms of a model's activations over a calibration set, once for every flavor and range method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...display.progress import track
from ...errors import ModelError, OptionError
from ..onnx_file import INPUT, OUTPUT, probing_session
from .histograms import Histogram

if TYPE_CHECKING:
    import onnx


def collect_histograms(
    model: onnx.ModelProto, batches: Sequence[np.ndarray], logits: list[np.ndarray] | None = None
) -> dict[str, Histogram]:
    """Return the histogram of every activation over the images.

    model: onnx.ModelProto.  batches: float32 [N, height, width, 3] each, a sequence that can be read again.  logits: a list
    that receives those of each batch.
    Raises ModelError, naming the layer, for an activation that is infinite or not a number.
    """
    check_sequence(batches)
    fused = _fused(model.graph)
    names = [name for name in _activations(model.graph) if name not in fused]
    session = probing_session(model, names)
    histograms = {name: Histogram() for name in (INPUT, *names)}
    for turn, batch in enumerate(track(batches, "collecting activations", len(batches))):
        found = session.run([OUTPUT, *names], {INPUT: batch})
        if logits is not None:
            logits.append(found[0])
        for name, values in zip((INPUT, *names), (batch, *found[1:]), strict=True):
            try:
                histograms[name].add(values, turn)
            except ValueError as error:
                raise ModelError(
                    f"{_maker(model.graph, name)} produces {error} on calibration image {turn + 1}"
                ) from None
    return {**histograms, **{name: histograms[activated] for name, activated in fused.items()}}


def check_sequence(batches: object) -> None:
    """Raise OptionError for a generator: it is empty when it is read for the second time."""
    if not hasattr(batches, "__len__") or not hasattr(batches, "__getitem__"):
        raise OptionError(
            f"calibration batches are a {type(batches).__name__}, which can be read only once; "
            "they are read several times: pass a list, or CalibrationSet.batches()"
        )


def _activations(graph: onnx.GraphProto) -> list[str]:
    """Return the float tensors between nodes, and the logits."""
    kinds = {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.output)}
    made = [name for node in graph.node if node.op_type != "Constant" for name in node.output if name]
    return [name for name in made if kinds.get(name, 1) == 1]


def _fused(graph: onnx.GraphProto) -> dict[str, str]:
    """Return, for each tensor that only an activation function reads, that function's output: backends fuse the two."""
    readers: dict[str, list[onnx.NodeProto]] = {}
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


def _maker(graph: onnx.GraphProto, name: str) -> str:
    node = next((node for node in graph.node if name in node.output), None)
    return f"the layer {node.name} ({node.op_type})" if node else f"the input {name}"
