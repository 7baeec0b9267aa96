"""Writes ONNX files from torch, checks and saves them, prepares them for quantization, and exposes their tensors."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.bundle.model_file import model_bytes
from edgeclf_runtime.device.machine import quota_cores
from edgeclf_runtime.files.read import sha256_bytes
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners.base import FEATURES

from ..data.temporary import temporary_folder
from ..errors import ModelError, first_sentence
from ..targets import IR_VERSIONS, OPSET
from .padding import constant_padding, join_padding

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    import torch

INPUT, OUTPUT = "image", "logits"


def write_onnx(
    network: torch.nn.Module,
    spec: Preprocessing,
    path: str | Path,
    metadata: dict[str, str],
    finish: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None,
) -> None:
    """Write a network that takes float32 [N, height, width, 3] as ONNX, with the opset that every target reads.

    finish: returns the model to save.
    """
    import torch

    try:
        model = export_torch(network, (1, spec.height, spec.width, 3), INPUT, OUTPUT)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"this backbone cannot be written as ONNX with opset {OPSET}, the newest that every target reads "
            f"({first_sentence(error)}); choose another --backbone"
        ) from None
    _give_each_its_own(model.graph)
    if any(node.op_type == "Pad" for node in model.graph.node):
        _fold_constants(model)
        join_padding(model.graph)
        drop_unused(model.graph)
    save_model(finish(model) if finish else model, path, metadata)


def export_torch(module: torch.nn.Module, shape: tuple[int, ...], source: str, result: str) -> onnx.ModelProto:
    """Return a torch module as onnx.ModelProto of opset OPSET, with any number of images; torch's errors are passed on.

    shape: of the float32 input.  source, result: names of the input and of the output.
    """
    import onnx
    import torch

    with (
        temporary_folder() as folder,
        warnings.catch_warnings(),
        _attention_for_old_opsets(),
        constant_padding(),
        _without_stdout(),
    ):
        # torch announces the end of this exporter; the other one writes opset 18, whatever is requested.
        warnings.simplefilter("ignore")
        path = Path(folder, "model.onnx")
        torch.onnx.export(
            module,
            (torch.zeros(shape),),
            str(path),
            input_names=[source],
            output_names=[result],
            dynamic_axes={source: {0: "N"}, result: {0: "N"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load(path)


@contextlib.contextmanager
def _without_stdout() -> Iterator[None]:
    """Discard what torch's C++ code prints to stdout: its whole graph, if it cannot write an operator."""
    sys.stdout.flush()
    flush = ctypes.CDLL(None).fflush
    flush(None)
    try:
        kept = os.dup(1)
    except OSError:  # stdout is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing, contextlib.redirect_stdout(io.StringIO()):
            os.dup2(nothing.fileno(), 1)
            yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def _attention_for_old_opsets() -> Iterator[None]:
    """Let torch write fused attention with an opset older than 14: it uses only operators that opset 13 has too."""
    import torch
    from torch.onnx import symbolic_opset14

    name = "aten::scaled_dot_product_attention"
    torch.onnx.register_custom_op_symbolic(name, symbolic_opset14.scaled_dot_product_attention, OPSET)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic(name, OPSET)


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
    """Return a model file as onnx.ModelProto with the inferred shapes that the quantizer needs, and without the output ``features``.

    Raises BackendError if it refers to other files.
    """
    import onnx
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = without_features(onnx.load_from_string(model_bytes(source)))
    prepared = onnx.shape_inference.infer_shapes(model)
    # The quantizer would write the model to disk and infer the shapes again.
    add_pre_process_metadata(prepared)
    _fold_constants(prepared)
    _drop_whole_slices(prepared.graph)
    return prepared


def _fold_constants(model: onnx.ModelProto) -> None:
    """Replace what does not depend on the image, such as standardized weights, by its value, in place.

    The quantizer asks for the range of an operand that a node writes, even of a constant.  Bounds of a Clip stay as they
    are: the quantizer reads them.
    """
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    graph = model.graph
    known = {tensor.name for tensor in graph.initializer} | {""}
    constant, rest = [], []
    for node in graph.node:
        if known.issuperset(node.input) and all(a.type != onnx.AttributeProto.GRAPH for a in node.attribute):
            known.update(node.output)
            constant.append(node)
        else:
            rest.append(node)
    made = {name for node in constant for name in node.output if name}
    wanted = sorted({name for node in rest if node.op_type != "Clip" for name in node.input} & made)
    if not wanted:
        return
    values = [onnx.ValueInfoProto(name=name) for name in wanted]
    read = {name for node in constant for name in node.input}
    stored = [tensor for tensor in graph.initializer if tensor.name in read]
    part = onnx.helper.make_graph(constant, "constants", [], values, stored)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    data = onnx.helper.make_model(
        part, opset_imports=model.opset_import, ir_version=model.ir_version
    ).SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    for name, value in zip(wanted, session.run(wanted, {}), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    for node in constant:
        for position, name in enumerate(node.output):
            if name in wanted:
                node.output[position] = f"{name}_folded"
    drop_unused(graph)


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


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that nothing reads any more, such as the bounds of a Clip that its Q/DQ pair replaces.

    Backends warn of them.
    """
    used = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not used.isdisjoint(node.output):
            used.update(node.input)
            kept.append(node)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(reversed(kept))
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def has_features(model: onnx.ModelProto) -> bool:
    """Return whether a classifier has the output ``features``; see ``graph/features.py``."""
    return any(value.name == FEATURES for value in model.graph.output)


def without_features(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a classifier without the output ``features``: a copy, or the model itself if it has none."""
    import onnx

    if not has_features(model):
        return model
    own = onnx.ModelProto()
    own.CopyFrom(model)
    kept = [value for value in model.graph.output if value.name != FEATURES]
    del own.graph.output[:]
    own.graph.output.extend(kept)
    drop_unused(own.graph)
    return own


def graph_sha256(model: onnx.ModelProto) -> str:
    """Return the SHA-256 of what a model (onnx.ModelProto) computes: its graph, without its metadata and its nodes' remarks."""
    import onnx

    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    for node in graph.node:
        node.ClearField("doc_string")
    return sha256_bytes(graph.SerializeToString(deterministic=True))
