"""Writes ONNX files from torch, checks and saves them, and exposes their tensors."""

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

from edgeclf_runtime.device.machine import inference_threads
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
    model = onnx_of(network, spec)
    save_model(finish(model) if finish else model, path, metadata)


def onnx_of(network: torch.nn.Module, spec: Preprocessing) -> onnx.ModelProto:
    """Return what write_onnx() writes, as onnx.ModelProto without metadata."""
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
        fold_constants(model)
        join_padding(model.graph)
        drop_unused(model.graph)
    return model


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

    complete(model, metadata, opset)
    onnx.checker.check_model(model)
    Path(path).write_bytes(model.SerializeToString(deterministic=True))


def complete(model: onnx.ModelProto, metadata: dict[str, str], opset: int = OPSET) -> None:
    """Give a model the contract's opset and edgeclf's metadata, in place; ModelError if it has other opsets."""
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


def fold_constants(model: onnx.ModelProto) -> None:
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


def probing_session(model: onnx.ModelProto, names: Sequence[str]) -> onnxruntime.InferenceSession:
    """Return an ONNX Runtime session that also outputs the named tensors, with as many threads as may run here."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = inference_threads()
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
