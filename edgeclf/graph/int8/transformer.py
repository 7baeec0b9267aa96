"""Recognizes transformers by what INT8 costs the most accuracy there: attention, layer norm and GELU.

An operator by itself says little: Tanh, Sqrt, Exp and Pow are activations and poolings of convolutional networks too.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_ALWAYS = ("Softmax", "Erf", "LayerNormalization")
_PRODUCTS = ("MatMul", "Gemm", "Einsum")
_MEANS = ("ReduceMean", "ReduceSum")
_ADJUSTED = ("Add", "Clip", "Max")
"""Keep a divisor from 0."""


def is_transformer(graph: onnx.GraphProto) -> bool:
    """Return whether a prepared graph (onnx.GraphProto) has attention, layer norm or GELU."""
    found = _Graph(graph)
    return any(
        node.op_type in _ALWAYS
        or found.is_product_of_activations(node)
        or found.is_softmax(node)
        or found.is_gelu(node)
        or found.is_layer_norm(node)
        for node in graph.node
    )


class _Graph:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._stored = {tensor.name for tensor in graph.initializer}
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._read_by: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._read_by[name].append(node)

    def is_product_of_activations(self, node: onnx.NodeProto) -> bool:
        """Return whether two activations are multiplied as matrices, as queries and keys are."""
        return node.op_type in _PRODUCTS and self._stored.isdisjoint(node.input)

    def is_softmax(self, node: onnx.NodeProto) -> bool:
        """Return whether a node is the exponential of a softmax in several operators."""
        return node.op_type == "Exp" and {"ReduceSum", "Div"} <= self._readers(node)

    def is_gelu(self, node: onnx.NodeProto) -> bool:
        """Return whether a node is the tanh of GELU's approximation, x * (1 + tanh(...)); Mish is x * tanh(...)."""
        added = [reader for reader in self._read_by[node.output[0]] if reader.op_type == "Add"]
        return node.op_type == "Tanh" and any("Mul" in self._readers(reader) for reader in added)

    def is_layer_norm(self, node: onnx.NodeProto) -> bool:
        """Return whether a node is the square root of a mean by which something is divided; RMS norm is one too."""
        if node.op_type != "Sqrt" or not self._divides(node):
            return False
        source = self._made_by.get(node.input[0])
        while source is not None and source.op_type in _ADJUSTED:
            source = next((self._made_by[name] for name in source.input if name in self._made_by), None)
        return source is not None and source.op_type in _MEANS

    def _divides(self, node: onnx.NodeProto) -> bool:
        name = node.output[0]
        return any(
            reader.op_type == "Reciprocal" or (reader.op_type == "Div" and reader.input[1] == name)
            for reader in self._read_by[name]
        )

    def _readers(self, node: onnx.NodeProto) -> set[str]:
        return {reader.op_type for reader in self._read_by[node.output[0]]}
