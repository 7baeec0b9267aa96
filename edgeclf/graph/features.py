"""Features of a classifier's graph, what its last linear layer (the head) reads, as the graph's second output.

Files are written with it, and everything that rewrites a graph (``graph/int8``, ``graph/fp16.py``) works on the form without it: the
output is a branch of its own, so nothing in between can become slower because of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeclf_runtime.runners.base import FEATURES

from ..display.progress import say
from ..errors import ModelError
from .onnx_file import drop_unused, has_features

if TYPE_CHECKING:
    import onnx

NO_FEATURES = "it does not end with a linear layer (Gemm, MatMul, or Conv of 1 x 1 on one pixel)"
_QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
# What may follow the head: changes of shape or type, a bias, and the logarithm of probabilities that no head was found for.
_PASSING = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast", *_QUANTIZING)
_HEADS = ("Gemm", "MatMul", "Conv")
_POOLING = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")


def add_features_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a classifier (onnx.ModelProto) whose second output is ``features``, float32 [N, features].

    The classifier is float32, FP16 or with Q/DQ pairs; features of 8 bits are dequantized.  Raises ModelError if the graph does not
    end with a linear layer.
    """
    found = _with_output(model)
    if found is None:
        raise ModelError(f"the model has no features: {NO_FEATURES}; use another model, or the default backbone")
    return found


def with_features(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a classifier with the output ``features``, or the model itself if it has no features."""
    return _with_output(model) or model


def reporting_features(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return what with_features() does, and print a warning if the model has no features."""
    found = _with_output(model)
    if found is None:
        say(f"warning: the model has no features: {NO_FEATURES}")
    return found or model


def features_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the part of a classifier that computes its features, as its only output."""
    import onnx

    own = onnx.ModelProto()
    own.CopyFrom(model if has_features(model) else add_features_output(model))
    del own.graph.output[0]
    drop_unused(own.graph)
    return own


def with_range(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Return the ranges of a classifier's tensors, by name, with that of the output ``features`` if it has any."""
    head = _head(model.graph)
    known = {} if head is None else {FEATURES: ranges[head.input[0]]}
    return {**known, **ranges}


def _with_output(model: onnx.ModelProto) -> onnx.ModelProto | None:
    import onnx
    from onnx import TensorProto, helper

    if has_features(model):
        return model
    own = onnx.ModelProto()
    own.CopyFrom(model)
    graph = own.graph
    head = _head(graph)
    if head is None:
        return None
    _free_name(graph)
    source = head.input[0]
    nodes: list[onnx.NodeProto] = []
    maker = next((node for node in graph.node if source in node.output), None)
    if maker is not None and maker.op_type == "DequantizeLinear":
        # Backends fuse the head with the pair before it only if nothing else reads that.
        source = f"/edgeclf/{FEATURES}_dequantized"
        nodes.append(helper.make_node("DequantizeLinear", maker.input, [source], source))
        nodes[-1].attribute.extend(maker.attribute)
    half = _type(graph, head) == TensorProto.FLOAT16
    flat = f"/edgeclf/{FEATURES}_fp16" if half else FEATURES
    nodes.append(helper.make_node("Flatten", [source], [flat], flat, axis=1))
    if half:
        nodes.append(helper.make_node("Cast", [flat], [FEATURES], FEATURES, to=TensorProto.FLOAT))
    graph.node.extend(nodes)
    batch = graph.output[0].type.tensor_type.shape.dim[:1]
    count = (batch[0].dim_param or batch[0].dim_value or "N") if batch else "N"
    shape = [count, _length(graph, head)]
    graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, shape))
    return own


def _free_name(graph: onnx.GraphProto) -> None:
    """Rename an inner tensor that has the name of the output."""
    for names in (names for node in graph.node for names in (node.input, node.output)):
        for index, name in enumerate(names):
            if name == FEATURES:
                names[index] = f"/edgeclf/own_{FEATURES}"
    for value in (*graph.initializer, *graph.value_info):
        if value.name == FEATURES:
            value.name = f"/edgeclf/own_{FEATURES}"


def _head(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """Return the node of the last linear layer; None if something else comes after it, or if there is none."""
    stored = _constants(graph)
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


def _constants(graph: onnx.GraphProto) -> set[str]:
    """Return the names of stored tensors, and of those that are computed from nothing else, such as dequantized weights."""
    known = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if known.issuperset(name for name in node.input if name):
            known.update(node.output)
    return known


def _weight(graph: onnx.GraphProto, node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return the stored weights of a layer, which may be quantized; None for those that something else computes."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {name: one for one in graph.node for name in one.output}
    name = node.input[1]
    while name not in stored:
        maker = made_by.get(name)
        if maker is None or maker.op_type == "Constant":
            return maker.attribute[0].t if maker is not None else None
        name = maker.input[0]
    return stored[name]


def _type(graph: onnx.GraphProto, head: onnx.NodeProto) -> int:
    """Return the type of what a layer reads: that of its weights, or of the scale with which they are dequantized."""
    made_by = {name: one for one in graph.node for name in one.output}
    maker = made_by.get(head.input[1])
    if maker is not None and maker.op_type == "DequantizeLinear":
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        return int(types.get(maker.input[1], 0))
    if maker is not None and maker.op_type == "Cast":
        return int(maker.attribute[0].i)
    weight = _weight(graph, head)
    return int(weight.data_type) if weight is not None else 0


def _length(graph: onnx.GraphProto, head: onnx.NodeProto) -> int | None:
    """Return the number of features, None if it is not known."""
    weight = _weight(graph, head)
    if weight is None or len(weight.dims) < 2:
        return None
    transposed = any(attribute.name == "transB" and attribute.i for attribute in head.attribute)
    return int(weight.dims[1 if head.op_type == "Conv" or transposed else 0])


def _is_linear(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """Return whether a convolution reads one pixel: its kernel is 1 x 1, and pooling to one pixel comes before it."""
    weight = _weight(graph, node)
    kernel = list(weight.dims)[2:] if weight is not None else []
    made_by = {name: one for one in graph.node for name in one.output}
    before = made_by.get(node.input[0])
    while before is not None and before.op_type not in _POOLING:
        # Activations and further layers of one pixel.
        before = made_by.get(before.input[0]) if len(before.input) else None
    return set(kernel) == {1} and before is not None
