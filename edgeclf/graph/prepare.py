"""Prepares an ONNX model for quantization: shapes, folded constants, and no Slice that takes everything."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.bundle.model_file import model_bytes

from .onnx_file import drop_unused, fold_constants, without_features

if TYPE_CHECKING:
    import onnx

_MANY = 1024
"""A tensor of so many numbers is weights, and no shape or bound."""


def prepare(source: Path) -> onnx.ModelProto:
    """Return a model file as onnx.ModelProto with the inferred shapes that the quantizer needs, and without the output ``features``.

    Raises BackendError if it refers to other files.
    """
    import onnx

    return prepare_model(without_features(onnx.load_from_string(model_bytes(source))))


def prepare_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return prepare() of a model that was loaded, which is changed in place."""
    from onnxruntime.quantization.quant_utils import add_infer_metadata, add_pre_process_metadata

    fold_constants(model)
    infer_shapes(model)
    _drop_whole_slices(model.graph)
    # Without these, the quantizer warns, and writes the model to disk and infers the shapes again for each file.
    add_pre_process_metadata(model)
    add_infer_metadata(model)
    return model


def infer_shapes(model: onnx.ModelProto) -> None:
    """Add the shapes and types of a model's tensors to it, in place."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(without_weights(model))
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model whose weights are inputs: what ONNX checks and infers depends on their shapes only.

    Weights may be hundreds of megabytes, which ONNX copies several times.
    """
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    for part in ("node", "input", "output", "value_info"):
        getattr(graph, part).extend(getattr(model.graph, part))
    inputs = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) < _MANY:
            graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


def _drop_whole_slices(graph: onnx.GraphProto) -> None:
    """Remove each Slice that takes all of its input, as in GhostNet, in place.

    OpenVINO 2026.4 crashes on Concat, Q/DQ, such a Slice, Q/DQ.
    """
    from onnx import numpy_helper

    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info)
    }
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    same: dict[str, str] = {}
    for node in list(graph.node):
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.op_type == "Slice" and node.output[0] not in outputs and _takes_all(node, shapes, stored):
            same[node.output[0]] = node.input[0]
            graph.node.remove(node)
    if same:
        drop_unused(graph)


def _takes_all(node: onnx.NodeProto, shapes: dict[str, list[int]], stored: dict[str, np.ndarray]) -> bool:
    """Return whether a Slice is known to take everything."""
    names = node.input[1:]
    if len(names) < 3 or not stored.keys() >= {name for name in names if name}:
        return False
    starts, ends, axes = (stored[name] for name in names[:3])
    steps = stored[names[3]] if len(names) > 3 and names[3] else np.ones_like(starts)
    shape = shapes.get(node.input[0], [])
    # A size of 0 is not known.
    sizes = [shape[axis] if axis < len(shape) else 0 for axis in axes]
    return bool(all(sizes) and not starts.any() and (ends >= sizes).all() and (steps == 1).all())
