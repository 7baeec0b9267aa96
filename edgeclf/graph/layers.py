"""Finds a graph's layers: each convolution or matrix product with stored weights, with the nodes that follow it up to the next one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Layer:
    """One layer of a graph."""

    name: str
    """The weighted node's name."""
    output: str
    """The weighted node's output tensor."""
    nodes: tuple[str, ...]
    """Names of its nodes: the weighted one, and those whose nearest weighted ancestor it is."""


def find_layers(graph: onnx.GraphProto) -> list[Layer]:
    """Return the layers of a float graph (onnx.GraphProto), in the graph's order."""
    owner: dict[str, int] = {}
    weighted: list[onnx.NodeProto] = []
    members: list[list[str]] = []
    stored = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        is_layer = node.op_type in WEIGHTED and node.input[1] in stored
        if is_layer:
            weighted.append(node)
            members.append([])
        index = len(weighted) - 1 if is_layer else max((owner.get(name, -1) for name in node.input), default=-1)
        if index >= 0:
            members[index].append(node.name)
            owner.update(dict.fromkeys(node.output, index))
    return [Layer(node.name, node.output[0], tuple(names)) for node, names in zip(weighted, members, strict=True)]


def layer_of_names(graph: onnx.GraphProto, layers: list[Layer]) -> dict[str, str]:
    """Return by each node's name, and by each of its outputs, the name of the layer that it belongs to."""
    outputs = {node.name: node.output for node in graph.node}
    return {key: layer.name for layer in layers for node in layer.nodes for key in (node, *outputs[node])}


def float_layers(quantized: onnx.GraphProto) -> list[str]:
    """Return the names of the weighted nodes of a Q/DQ graph (onnx.GraphProto) that compute in float."""
    stored = {tensor.name for tensor in quantized.initializer}
    return [node.name for node in quantized.node if node.op_type in WEIGHTED and node.input[1] in stored]


def float_operators(quantized: onnx.GraphProto) -> list[str]:
    """Return the operators without weights that compute in float in a Q/DQ graph (onnx.GraphProto), sorted."""
    made_by = {name: node.op_type for node in quantized.node for name in node.output}
    passing = {*WEIGHTED, "QuantizeLinear", "DequantizeLinear", "Constant"}
    return sorted(
        {
            node.op_type
            for node in quantized.node
            if node.op_type not in passing and "DequantizeLinear" not in [made_by.get(name) for name in node.input]
        }
    )
