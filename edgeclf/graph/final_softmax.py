"""Finds and removes a softmax at the end of another program's graph, however it is written.

A softmax may be one operator, or exponentials, sums and quotients.  The values decide: if the model's outputs are probabilities
of one label among several, or their logarithms, the graph is cut at the tensor whose softmax they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.classify.decision import softmax

from .onnx_file import drop_unused

if TYPE_CHECKING:
    import onnx

_FARTHEST = 24
"""Nodes before the output in which a softmax is looked for; a written one has six."""
_SCALES = (0.1, 1.0, 10.0)
"""Of the noise that is tried: a single image could have such outputs by chance."""
_SAME = 1e-4
_SMALLEST = 1e-30
"""Probability below which a logarithm is cut off."""


def drop_written_softmax(model: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> str:
    """Cut a softmax off, in place, and return Softmax, LogSoftmax, or "" if the outputs are neither.

    name, shape: of the input.  Where no tensor's softmax is found, the logarithm of the probabilities is put behind them.
    """
    names = _before_output(model.graph)
    output = model.graph.output[0].name
    found = _values(model, name, shape, [output, *names])
    if not found:
        return ""
    scores = [one[0].reshape(shape[0], -1) for one in found]
    kind = _kind(scores)
    if not kind:
        return ""
    expected = [one if kind == "Softmax" else np.exp(one) for one in scores]
    for index in range(
        len(names), 0, -1
    ):  # from the farthest: what a maximum was subtracted from comes before the difference
        values = [one[index] for one in found]
        same = all(value.shape == one[0].shape for value, one in zip(values, found, strict=True))
        if same and all(
            np.abs(softmax(value.reshape(shape[0], -1)) - one).max() < _SAME
            for value, one in zip(values, expected, strict=True)
        ):
            _set_output(model.graph, names[index - 1])
            return kind
    if kind == "Softmax":
        _append_logarithm(model.graph, output)
    return kind


def _kind(scores: list[np.ndarray]) -> str:
    if scores[0].shape[1] < 2:
        return ""
    for kind, values in (("Softmax", scores), ("LogSoftmax", [np.exp(np.minimum(one, 1)) for one in scores])):
        if all((one >= 0).all() and np.abs(one.sum(1) - 1).max() < _SAME for one in values):
            return kind
    return ""


def _before_output(graph: onnx.GraphProto) -> list[str]:
    """Return the tensors from which the output is computed, the nearest first."""
    made_by = {name: node for node in graph.node for name in node.output}
    found: list[str] = []
    pending = [graph.output[0].name]
    while pending and len(found) < _FARTHEST:
        node = made_by.get(pending.pop(0))
        for name in node.input if node is not None else ():
            if name in made_by and name not in found and made_by[name].op_type != "Constant":
                found.append(name)
                pending.append(name)
    return found


def _values(model: onnx.ModelProto, name: str, shape: tuple[int, ...], names: list[str]) -> list[list[np.ndarray]]:
    """Return the named tensors for images of noise; [] if the model does not run."""
    import onnx
    import onnxruntime

    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    probed.graph.output.extend(onnx.ValueInfoProto(name=one) for one in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    random = np.random.default_rng(0)
    images = [random.normal(scale=scale, size=shape).astype(np.float32) for scale in _SCALES]
    try:
        session = onnxruntime.InferenceSession(probed.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [[np.asarray(value) for value in session.run(names, {name: image})] for image in images]
    except Exception:  # any of its own; whoever makes the model portable says what is wrong
        return []


def _set_output(graph: onnx.GraphProto, name: str) -> None:
    import onnx

    del graph.output[:]
    graph.output.extend([onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)])
    drop_unused(graph)


def _append_logarithm(graph: onnx.GraphProto, name: str) -> None:
    import onnx

    least, bounded, logits = (f"/edgeclf/{part}" for part in ("least", "bounded", "logits"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(_SMALLEST, np.float32), least))
    graph.node.append(onnx.helper.make_node("Clip", [name, least], [bounded], name=bounded))
    graph.node.append(onnx.helper.make_node("Log", [bounded], [logits], name=logits))
    _set_output(graph, logits)
