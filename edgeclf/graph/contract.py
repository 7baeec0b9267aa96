"""Wraps a plain classifier into edgeclf's interface: ``image``, float32 [N, height, width, 3] with values 0 to 255, to ``logits``.

Normalization becomes a grouped 1 x 1 convolution, the only form that TensorRT, ONNX Runtime and OpenCV since 4.1.1 all
compute correctly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .foreign_model import Core, ImageShape
from .onnx_file import INPUT, OUTPUT

if TYPE_CHECKING:
    import onnx

# For each range, the factor and the offset from pixels of 0 to 255.
RANGES = {"0-1": (1 / 255, 0.0), "0-255": (1.0, 0.0), "-1..1": (1 / 127.5, -1.0)}
_NCHW, _NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


@dataclass(frozen=True)
class Normalization:
    """From pixels to what a model was trained on: scaled to a range, minus the mean, divided by the standard deviation.

    mean, std: of each channel, in the model's color order, and in units of the range.
    """

    range: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def weight(self) -> np.ndarray:
        """The factor of each channel, float64 [3]."""
        return RANGES[self.range][0] / np.array(self.std)

    @property
    def bias(self) -> np.ndarray:
        """The offset of each channel after the factor, float64 [3]."""
        return (RANGES[self.range][1] - np.array(self.mean)) / np.array(self.std)

    def apply(self, batch: np.ndarray, layout: str) -> np.ndarray:
        """Return float32 [N, height, width, 3] with values 0 to 255, normalized and in a layout."""
        normalized = (batch * self.weight + self.bias).astype(np.float32)
        return np.ascontiguousarray(normalized.transpose(_NCHW)) if layout == "NCHW" else normalized


def wrap(core: Core, shape: ImageShape, normalization: Normalization, labels: int) -> onnx.ModelProto:
    """Return the model (onnx.ModelProto) with edgeclf's input and output; ``labels``: their number."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.ModelProto()
    model.CopyFrom(core.model)
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    source = next(value.name for value in graph.input if value.name not in stored)
    for name in (INPUT, OUTPUT):
        if name not in (source, graph.output[0].name):
            _rename(graph, name, f"/edgeclf/own_{name}")
    _rename(graph, source, "/edgeclf/pixels")
    _rename(graph, graph.output[0].name, "/edgeclf/scores")
    batch = "N" if core.dynamic else 1
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend([helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, shape.height, shape.width, 3])])
    graph.output.extend([helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, labels])])
    first = _to_pixels(graph, shape.layout, normalization)
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*first, *body, *_to_logits(body)])
    _name_nodes(graph)
    return model


def _to_pixels(graph: onnx.GraphProto, layout: str, normalization: Normalization) -> list[onnx.NodeProto]:
    """Return the nodes from ``image`` to the core's input; transposes that undo each other are left out."""
    from onnx import helper, numpy_helper

    plain = bool((normalization.weight == 1).all() and (normalization.bias == 0).all())
    if plain and layout == "NHWC":
        _rename(graph, "/edgeclf/pixels", INPUT)
        return []
    nodes = [helper.make_node("Transpose", [INPUT], ["/edgeclf/planes"], perm=_NCHW)]
    planes = "/edgeclf/planes"
    if not plain:
        planes = "/edgeclf/normalized"
        weight, bias = normalization.weight.astype(np.float32), normalization.bias.astype(np.float32)
        graph.initializer.extend(
            [
                numpy_helper.from_array(weight.reshape(3, 1, 1, 1), "/edgeclf/weight"),
                numpy_helper.from_array(bias, "/edgeclf/bias"),
            ]
        )
        inputs = ["/edgeclf/planes", "/edgeclf/weight", "/edgeclf/bias"]
        nodes.append(helper.make_node("Conv", inputs, [planes], kernel_shape=[1, 1], group=3))
    if layout == "NCHW":
        _rename(graph, "/edgeclf/pixels", planes)
        return nodes
    for node in [node for node in graph.node if node.op_type == "Transpose" and node.input[0] == "/edgeclf/pixels"]:
        if list(node.attribute[0].ints) == _NCHW:
            graph.node.remove(node)
            _rename(graph, node.output[0], planes)
    if any("/edgeclf/pixels" in node.input for node in graph.node):
        nodes.append(helper.make_node("Transpose", [planes], ["/edgeclf/pixels"], perm=_NHWC))
    return nodes


def _to_logits(body: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Let the node that makes the scores make the logits, flattened if it does not have two dimensions already."""
    from onnx import helper

    last = next(node for node in body if "/edgeclf/scores" in node.output)
    used = any("/edgeclf/scores" in node.input for node in body)
    if last.op_type in ("Gemm", "Flatten") and not used:
        last.output[0] = OUTPUT
        return []
    return [helper.make_node("Flatten", ["/edgeclf/scores"], [OUTPUT], axis=1)]


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    for value in (*graph.initializer, *graph.input, *graph.output):
        if value.name == old:
            value.name = new


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own; the quantizer and the reports tell layers apart by them."""
    seen: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"/edgeclf/{node.op_type}_{number}"
        seen.add(node.name)
