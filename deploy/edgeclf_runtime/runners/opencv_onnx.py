"""Rewrites the bounds of Clip in an ONNX file, so that every OpenCV reads them.

Since opset 11 they are inputs.  OpenCV 4.5.4 (JetPack 5) refuses that, and 4.1.1 (JetPack 4) takes any bounds for 0 and 6;
as attributes, the form of opset 6, they work with 4.1.1, 4.5.5, 4.6 and 5.0.  Field numbers: onnx.proto.
"""

import struct
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from ..bundle.onnx_wire import field, fields, message

if TYPE_CHECKING:
    from ..bundle.onnx_wire import Data

_GRAPH = 7  # of a model
_NODE, _INITIALIZER = 1, 5  # of a graph
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5  # of a node
_TENSOR = 5  # of an attribute
_FLOAT_DATA, _NAME, _RAW_DATA = 4, 8, 9  # of a tensor
_SCALAR_BYTES = 128  # longest tensor of one number, with its name
_LARGEST = 3.4028234663852886e38  # stands for a missing bound


def give_clip_attributes(data: bytes) -> bytes:
    """Return an ONNX file's bytes with the constant bounds of every Clip as attributes.

    Data that is not an ONNX file is returned unchanged; OpenCV's reader gives the better error.
    """
    try:
        parts = list(fields(memoryview(data)))
        return b"".join(field(_GRAPH, _graph(value)) if number == _GRAPH else raw for number, value, raw in parts)
    except (LookupError, TypeError, ValueError):
        return data


def _graph(graph: "Data") -> bytes:
    parts = list(fields(graph))
    bounds: Dict[bytes, Optional[float]] = {b"": None}
    for number, value, _ in parts:
        if number == _INITIALIZER and len(value) <= _SCALAR_BYTES:
            tensor = message(value)
            bounds[bytes(tensor[_NAME][0])] = _scalar(tensor)
        elif number == _NODE:
            node = message(value)
            if node[_OPERATOR] == [b"Constant"]:
                tensor = message(message(node[_ATTRIBUTE][0]).get(_TENSOR, [b""])[0])
                bounds[bytes(node[_OUTPUT][0])] = _scalar(tensor)
    return b"".join(field(_NODE, _node(value, bounds)) if number == _NODE else raw for number, value, raw in parts)


def _node(node: "Data", bounds: Dict[bytes, Optional[float]]) -> "Data":
    known = message(node)
    given = [bytes(name) for name in known.get(_INPUT, [])[1:]]
    if known[_OPERATOR] != [b"Clip"] or not given or any(name and bounds.get(name) is None for name in given):
        return node
    low, high = ([bounds[name] for name in given] + [None])[:2]
    rest = b"".join(raw for number, _, raw in fields(node) if number != _INPUT)
    return (
        field(_INPUT, known[_INPUT][0])
        + rest
        + field(_ATTRIBUTE, _float_attribute(b"min", -_LARGEST if low is None else low))
        + field(_ATTRIBUTE, _float_attribute(b"max", _LARGEST if high is None else high))
    )


def _scalar(tensor: Dict[int, List[Any]]) -> Optional[float]:
    """Return the number in a tensor that holds one float32, else None."""
    data = (tensor.get(_RAW_DATA) or tensor.get(_FLOAT_DATA) or [b""])[0]
    return struct.unpack("<f", data)[0] if not isinstance(data, int) and len(data) == 4 else None


def _float_attribute(name: bytes, value: float) -> bytes:
    # Fields 1 (name), 2 (f) and 20 (type, FLOAT being 1).
    return field(1, name) + b"\x15" + struct.pack("<f", value) + b"\xa0\x01\x01"
