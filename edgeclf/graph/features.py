"""Adds the features of a classifier's graph to its outputs: what its last linear layer, the head, reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ModelError
from .onnx_file import drop_unused

if TYPE_CHECKING:
    import onnx

FEATURES = "features"
# What may follow the head: changes of shape, a bias, and the logarithm of probabilities that no head was found for.
_PASSING = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast")
_HEADS = ("Gemm", "MatMul", "Conv")


def add_features_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a float classifier (onnx.ModelProto) whose second output is ``features``, float32 [N, features].

    Raises ModelError if the graph does not end with a linear layer.
    """
    import onnx

    own = onnx.ModelProto()
    own.CopyFrom(model)
    graph = own.graph
    head = _head(graph)
    if head is None:
        raise ModelError(
            "the model does not end with a linear layer (Gemm, MatMul, or Conv of 1 x 1 on one pixel), so it has no features: use "
            "another model, or the default backbone"
        )
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    name = FEATURES if FEATURES not in taken else f"/edgeclf/{FEATURES}"
    graph.node.append(
        onnx.helper.make_node("Flatten", [head.input[0]], [name], name=f"/edgeclf/{FEATURES}_flat", axis=1)
    )
    graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None]))
    return own


def features_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the part of a classifier that computes its features, as its only output."""
    own = add_features_output(model)
    del own.graph.output[0]
    drop_unused(own.graph)
    return own


def _head(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """Return the node of the last linear layer; None if something else comes after it, or if there is none."""
    stored = {tensor.name for tensor in graph.initializer}
    stored |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    made_by = {name: node for node in graph.node for name in node.output}
    node = made_by.get(graph.output[0].name)
    while node is not None:
        if node.op_type in _HEADS and len(node.input) > 1 and node.input[1] in stored:
            return node if node.op_type != "Conv" or _is_linear(node, graph) else None
        if node.op_type == "Add":  # the bias of a MatMul
            sources = [name for name in node.input if name not in stored]
            node = made_by.get(sources[0]) if len(sources) == 1 else None
        else:
            node = made_by.get(node.input[0]) if node.op_type in _PASSING else None
    return None


def _is_linear(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """Return whether a convolution reads one pixel: its kernel is 1 x 1, and pooling to one pixel comes before it."""
    kernel = next((list(tensor.dims)[2:] for tensor in graph.initializer if tensor.name == node.input[1]), [])
    made_by = {name: one for one in graph.node for name in one.output}
    before = made_by.get(node.input[0])
    while before is not None and before.op_type not in (
        "GlobalAveragePool",
        "GlobalMaxPool",
        "ReduceMean",
        "ReduceMax",
    ):
        # Activations and further layers of one pixel.
        before = made_by.get(before.input[0]) if len(before.input) else None
    return set(kernel) == {1} and before is not None
