"""TensorFlow's SAME padding, which timm's tf_ networks have, as plain numbers of the convolutions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


@contextlib.contextmanager
def constant_padding() -> Iterator[None]:
    """Let timm's layers compute their padding while torch exports them, instead of writing operators that compute it from the size."""
    from timm.layers import padding

    usual = padding.get_same_padding
    padding.get_same_padding = lambda size, *layer: usual(int(size), *layer)
    try:
        yield
    finally:
        padding.get_same_padding = usual


def join_padding(graph: onnx.GraphProto) -> None:
    """Make each Pad of zeros before a Conv the padding of that Conv, in place.

    A Pad copies the whole map, and ends a chain of INT8.  The numbers of zeros must be initializers.
    """
    from onnx import numpy_helper

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    for node in [node for node in graph.node if node.op_type == "Pad"]:
        readers = [other for other in graph.node if node.output[0] in other.input]
        sizes = _zeros(node, stored)
        if sizes is None or node.output[0] in outputs or not all(_can_pad(other, node.output[0]) for other in readers):
            continue
        for conv in readers:
            _add_padding(conv, sizes)
            conv.input[0] = node.input[0]
        graph.node.remove(node)


def _zeros(node: onnx.NodeProto, stored: dict[str, np.ndarray]) -> list[int] | None:
    """Return the numbers of zeros that a Pad adds above, left, below and right; None if it adds anything else."""
    names = [*node.input, "", ""]
    if any(attribute.name == "mode" and attribute.s != b"constant" for attribute in node.attribute):
        return None
    if names[1] not in stored or (names[2] and (names[2] not in stored or stored[names[2]].any())):
        return None
    sizes = stored[names[1]].tolist()
    return (
        [sizes[i] for i in (2, 3, 6, 7)]
        if len(sizes) == 8 and min(sizes) >= 0 and not any(sizes[i] for i in (0, 1, 4, 5))
        else None
    )


def _can_pad(node: onnx.NodeProto, name: str) -> bool:
    explicit = all(attribute.name != "auto_pad" or attribute.s == b"NOTSET" for attribute in node.attribute)
    return node.op_type == "Conv" and explicit and name not in node.input[1:]


def _add_padding(conv: onnx.NodeProto, sizes: list[int]) -> None:
    import onnx

    old = next((attribute for attribute in conv.attribute if attribute.name == "pads"), None)
    pads = [a + b for a, b in zip(sizes, old.ints if old else [0] * 4, strict=True)]
    if old:
        conv.attribute.remove(old)
    conv.attribute.append(onnx.helper.make_attribute("pads", pads))
