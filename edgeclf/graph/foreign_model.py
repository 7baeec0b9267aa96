"""Turns another program's ONNX graph into a plain float32 classifier of opset 13: pixels in, logits out, any batch size.

The graph is frozen to one image of its size, so that ONNX Runtime can compute everything that depends only on shapes, fold
batch norm into convolutions and remove what does nothing.  Then the batch is made dynamic again, and that is tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.runners.base import brief

from ..data.temporary import temporary_folder
from ..errors import ModelError
from ..targets import OPSET
from .final_softmax import drop_written_softmax
from .inference import infer_file, infer_graph
from .opset import with_opset

if TYPE_CHECKING:
    import onnx

_CHANNELS = 3
_BATCH = 3
"""Images in the batch that must give the logits of single images."""
_TOLERANCE = 1e-4
_PASSING = ("Identity", "Flatten", "Reshape", "Squeeze")
_ACTIVATIONS = ("Softmax", "LogSoftmax")


@dataclass(frozen=True)
class ImageShape:
    """The shape of a model's input, without the batch."""

    layout: str
    """One of options.LAYOUTS."""
    height: int
    width: int

    def sizes(self, images: int) -> tuple[int, ...]:
        """Return the shape of a batch of so many images."""
        if self.layout == "NCHW":
            return images, _CHANNELS, self.height, self.width
        return images, self.height, self.width, _CHANNELS

    def batch(self, images: int | str) -> list[int | str]:
        """Return the shape of a batch as ONNX has it; ``images``: their number, or the name of a dynamic dimension."""
        return [images, *self.sizes(1)[1:]]


@dataclass(frozen=True)
class Core:
    """A plain classifier: float32 pixels, normalized, in the model's own layout -> float32 logits [N, labels]."""

    model: onnx.ModelProto
    removed: str
    """The activation that was removed from its end: Softmax, LogSoftmax or ""."""
    dynamic: bool
    """True if it takes batches of any size; otherwise it takes one image."""


def image_input(model: onnx.ModelProto) -> tuple[str, list[int | None]]:
    """Return the name and shape of a model's image input, None for a dynamic dimension.

    Raises ModelError if the model has other inputs, or takes something else than float32 images of three channels.
    """
    from onnx import TensorProto

    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(f"the model has {len(inputs)} inputs ({names}); one, the image, was expected")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise ModelError(f"the model's input is {kind}; float32 was expected: export it again without half or INT8")
    dims = [dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in tensor.shape.dim]
    if len(dims) != 4 or not _layouts(dims):
        shown = " x ".join("?" if dim is None else str(dim) for dim in dims)
        raise ModelError(
            f"the model's input has the shape {shown}; batch x 3 x height x width (NCHW) or "
            "batch x height x width x 3 (NHWC) was expected"
        )
    return inputs[0].name, dims


def layout_of(dims: list[int | None]) -> str:
    """Return the layout that an input's shape shows, "" if both are possible."""
    found = _layouts(dims)
    return found[0] if len(found) == 1 else ""


def _layouts(dims: list[int | None]) -> list[str]:
    if (dims[1] == _CHANNELS) != (dims[3] == _CHANNELS):
        return ["NCHW" if dims[1] == _CHANNELS else "NHWC"]
    return [layout for layout, index in (("NCHW", 1), ("NHWC", 3)) if dims[index] in (None, _CHANNELS)]


def make_core(model: onnx.ModelProto, shape: ImageShape, labels: int, output: str = "") -> Core:
    """Return the plain classifier of a model.

    shape: of one image.  labels: their number.  output: name of the output with a score for each label, if there are
    several outputs.  Raises ModelError, with the operators or the sizes, for a graph that cannot become one.
    """
    model = _plain(model)
    name, dims = image_input(model)
    images = dims[0] or 1
    _set_shape(model, name, shape.batch(images))
    _keep_output(model, output, labels)
    removed = _drop_activation(model.graph) or drop_written_softmax(model, name, shape.sizes(images))
    frozen = _portable(model)
    graphs = [_with_free_batch(frozen, name, shape, images)]
    if dims[0] is None:
        _set_shape(model, name, shape.batch("N"))
        graphs.append(model)
    for graph in graphs:
        found = _tried(graph, shape)
        if found is not None:
            return Core(found, removed, True)
    if images > 1:
        raise ModelError(f"the model accepts only batches of {images} images: export it with a batch of 1")
    return Core(frozen, removed, False)


def infer_original(model: onnx.ModelProto, labels: int, batches: Iterable[np.ndarray], output: str = "") -> np.ndarray:
    """Return the scores of a model as it was read, float32 [images, labels]; batches: one normalized image each."""
    import onnx

    # A file for several images at a time gets each image so many times.
    times = image_input(model)[1][0] or 1
    repeated = (np.repeat(batch, times, axis=0) for batch in batches)

    own = onnx.ModelProto()
    own.CopyFrom(model)
    if len(own.graph.output) > 1:
        _keep_output(own, output, labels)
    with temporary_folder() as folder:
        path = Path(folder, "original.onnx")
        path.write_bytes(own.SerializeToString())
        scores = infer_file(path, "fp32", repeated)[::times]
    return scores.reshape(len(scores), -1)


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without local functions and metadata; ModelError for operators that only one library has."""
    import onnx
    import onnx.inliner

    model = onnx.inliner.inline_local_functions(model) if model.functions else model
    own = onnx.ModelProto()
    own.CopyFrom(model)
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in own.graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise ModelError(
            f"the model has operators outside of ONNX ({', '.join(foreign[:5])}): export it again without them"
        )
    kinds = {node.op_type for node in own.graph.node}
    halves = any(tensor.data_type == tensor.FLOAT16 for tensor in own.graph.initializer)
    if halves or kinds & {"DequantizeLinear", "QLinearConv", "ConvInteger"}:
        raise ModelError(
            "the model is already quantized or FP16; export it again as float32; quantization is a later step"
        )
    opsets = [entry for entry in own.opset_import if entry.domain in ("", "ai.onnx")]
    version = opsets[0].version if opsets else OPSET
    del own.opset_import[:], own.metadata_props[:], own.training_info[:], own.graph.metadata_props[:]
    own.opset_import.extend([onnx.helper.make_opsetid("", version)])
    return own


def _set_shape(model: onnx.ModelProto, name: str, shape: list[int | str]) -> None:
    import onnx

    del model.graph.value_info[:]
    for value in model.graph.input:
        if value.name == name:
            value.CopyFrom(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))


def _keep_output(model: onnx.ModelProto, output: str, labels: int) -> None:
    """Keep only the output with a score for each label."""
    import onnx

    found = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.output}
    sizes = {
        name: [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.dim_value > 1]
        for name, value in found.items()
    }
    shown = ", ".join(f"{name} ({' x '.join(map(str, size)) or '?'})" for name, size in sizes.items())
    if output and output not in found:
        raise ModelError(f"the model has no output {output!r}; it has {shown}: choose one with --tensor")
    candidates = [output] if output else list(found)
    if len(candidates) > 1:
        candidates = [name for name in candidates if sizes[name] == [labels]]
    if len(candidates) != 1:
        raise ModelError(
            f"the model has the outputs {shown}; one with {labels} scores was expected: name it with --tensor"
        )
    kept = onnx.helper.make_tensor_value_info(candidates[0], onnx.TensorProto.FLOAT, None)
    kind = found[candidates[0]].type.tensor_type.elem_type
    if kind not in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.FLOAT):
        raise ModelError(
            f"the model's output {candidates[0]} is {onnx.TensorProto.DataType.Name(kind)}; float32 scores, one for each label, were "
            "expected: export it again without half, and without an operator that chooses the label"
        )
    del model.graph.output[:]
    model.graph.output.extend([kept])


def _drop_activation(graph: onnx.GraphProto) -> str:
    """Make a softmax at the end do nothing, and return its kind; ModelError for a sigmoid, whose labels are independent."""
    made_by = {name: node for node in graph.node for name in node.output}
    node = made_by.get(graph.output[0].name)
    while node is not None:
        kind: str = node.op_type
        if kind in _ACTIVATIONS:
            node.op_type = "Identity"
            del node.attribute[:]
            return kind
        if kind == "Sigmoid":
            raise ModelError(
                "the model ends with Sigmoid, a yes or no for each label; one of several labels was expected: "
                "export a model with one output for each label, without Sigmoid"
            )
        node = made_by.get(node.input[0]) if kind in _PASSING else None
    return ""


def _portable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model folded, with opset OPSET, explicit padding, and stored weights."""
    import onnx

    # The second time folds what the first one made of operators that are functions.
    folded = with_opset(_fold(_fold(model)))
    _make_padding_explicit(folded)
    _check_nodes(folded.graph)
    folded.graph.output[0].CopyFrom(onnx.shape_inference.infer_shapes(folded).graph.output[0])
    return folded


def _fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let ONNX Runtime compute what is constant and fold batch norm; only operators of ONNX itself result."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with temporary_folder() as folder:
        path = Path(folder, "folded.onnx")
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # any of its own
            raise ModelError(
                f"onnxruntime {onnxruntime.__version__} cannot load the model ({brief(error)}); check --size and --layout, "
                "or export it again"
            ) from None
        folded = onnx.load(path)
    entries = [entry for entry in folded.opset_import if entry.domain in ("", "ai.onnx")]
    # It lists every domain that it knows.
    del folded.opset_import[:], folded.graph.value_info[:]
    folded.opset_import.extend(entries)
    return folded


def _make_padding_explicit(model: onnx.ModelProto) -> None:
    """Replace ``auto_pad``, which depends on a shape, by pads."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    shapes: dict[str, list[int]] = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.input, *inferred.graph.value_info)
    }
    shapes.update({tensor.name: list(tensor.dims) for tensor in model.graph.initializer})
    for node in model.graph.node:
        facts = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        mode = facts.get("auto_pad", b"NOTSET").decode()
        if mode == "NOTSET" or node.op_type not in ("Conv", "MaxPool", "AveragePool"):
            continue
        kernel = facts.get("kernel_shape") or shapes[node.input[1]][2:]
        pads = _pads(mode, shapes[node.input[0]][2:], kernel, facts.get("strides"), facts.get("dilations"))
        kept = [attribute for attribute in node.attribute if attribute.name not in ("auto_pad", "pads")]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("pads", pads)])


def _pads(
    mode: str, sizes: list[int], kernel: list[int], strides: list[int] | None, dilations: list[int] | None
) -> list[int]:
    """Return the pads of all first sides, then of all last ones, as ONNX has them."""
    first, last = [], []
    ones = [1] * len(kernel)
    for size, taps, stride, dilation in zip(sizes, kernel, strides or ones, dilations or ones, strict=True):
        reach = (taps - 1) * dilation + 1
        total = 0 if mode == "VALID" else max((-(-size // stride) - 1) * stride + reach - size, 0)
        small, large = total // 2, total - total // 2
        first.append(large if mode == "SAME_LOWER" else small)
        last.append(small if mode == "SAME_LOWER" else large)
    return first + last


def _check_nodes(graph: onnx.GraphProto) -> None:
    """Raise ModelError for what no device's file may have: control flow, and convolutions of anything but images."""
    import onnx

    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if any(
            attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute
        ):
            raise ModelError(
                f"the model has control flow ({node.op_type}), which devices cannot run: export it without control flow"
            )
        if node.op_type == "Conv" and len(shapes.get(node.input[1], ())) != 4:
            raise ModelError(
                f"the convolution {node.name or node.output[0]} has weights that are computed, or are not two-dimensional; "
                "stored weights of a 2-D convolution were expected"
            )


def _with_free_batch(frozen: onnx.ModelProto, name: str, shape: ImageShape, images: int) -> onnx.ModelProto:
    """Return a copy of a graph for so many images whose batch is dynamic: a Reshape to ``images`` x ... keeps its input's."""
    import onnx
    from onnx import numpy_helper

    freed = onnx.ModelProto()
    freed.CopyFrom(frozen)
    _set_shape(freed, name, shape.batch("N"))
    stored = {tensor.name: tensor for tensor in freed.graph.initializer}
    for index, node in enumerate(freed.graph.node):
        if node.op_type == "Reshape" and node.input[1] in stored:
            target = numpy_helper.to_array(stored[node.input[1]]).copy()
            if len(target) and target[0] == images:
                target[0] = 0  # means: as in the input
                own = f"/edgeclf/shape_{index}"
                freed.graph.initializer.append(numpy_helper.from_array(target, own))
                node.input[1] = own
    output = freed.graph.output[0]
    output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, None))
    return freed


def _tried(model: onnx.ModelProto, shape: ImageShape) -> onnx.ModelProto | None:
    """Return a portable model if a batch of several images gives what each gives by itself."""
    images = np.random.default_rng(0).normal(size=shape.sizes(_BATCH)).astype(np.float32)
    try:
        portable = _portable(model)
        together, *others = (
            infer_graph(portable, "fp32", batches) for batches in ([images], *([image[None]] for image in images))
        )
    except (ModelError, BackendError):
        return None
    apart = np.concatenate(others)
    same = together.shape == apart.shape and np.allclose(together, apart, _TOLERANCE, _TOLERANCE * _largest(apart))
    return portable if same else None


def _largest(values: np.ndarray) -> float:
    return max(1.0, float(np.abs(values).max(initial=0)))
