"""What a model's activations do over a calibration set: looked at once, used by every flavour and every range method.

Knows nothing of Q/DQ or of accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ModelError, OptionError
from ..graph.onnx_file import INPUT, probing_session
from ..progress import track
from .histograms import Histogram
from .ranges import METHODS

Ranges = dict[str, tuple[float, float]]
"""Smallest and largest value of each activation, by the tensor's name."""


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
