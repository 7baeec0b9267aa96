"""Rewrites what old OpenCVs do not read in an ONNX file: the bounds of Clip, and unequal padding.

Since opset 11 the bounds are inputs.  OpenCV 4.5.4 (JetPack 5) refuses that, and 4.1.1 (JetPack 4) takes any bounds for 0 and 6;
as attributes, the form of opset 6, they work with 4.1.1, 4.5.5, 4.6 and 5.0.  4.1.1 also refuses a Conv with other padding
above than below; a Pad in the form of opset 2 before it does the same.  Field numbers: onnx.proto.
"""

import struct
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Sequence

from ..bundle.onnx_wire import field, fields, message

if TYPE_CHECKING:
    from ..bundle.onnx_wire import Data, Message

_GRAPH = 7  # of a model
_NODE, _INITIALIZER = 1, 5  # of a graph
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5  # of a node
_ATTRIBUTE_NAME, _TEXT, _TENSOR, _INTS = 1, 4, 5, 8  # of an attribute
_FLOAT_DATA, _NAME, _RAW_DATA = 4, 8, 9  # of a tensor
# Field 20 of an attribute, its type.
_TYPE_FLOAT, _TYPE_TEXT, _TYPE_INTS = b"\xa0\x01\x01", b"\xa0\x01\x03", b"\xa0\x01\x07"
_SCALAR_BYTES = 128  # longest tensor of one number, with its name
_LARGEST = 3.4028234663852886e38  # stands for a missing bound


def give_clip_attributes(data: bytes) -> bytes:
    """Return an ONNX file's bytes with the constant bounds of every Clip as attributes.

    Data that is not an ONNX file is returned unchanged; OpenCV's reader gives the better error.
    """
    return _rewritten(data, _with_clip_attributes)


def give_padding_nodes(data: bytes) -> bytes:
    """Return an ONNX file's bytes with a Pad before every Conv whose padding is unequal; other data unchanged."""
    return _rewritten(data, _with_padding_nodes)


def _rewritten(data: bytes, rewrite: "Callable[[Data], bytes]") -> bytes:
    """Return a file with another graph."""
    try:
        parts = list(fields(memoryview(data)))
        return b"".join(field(_GRAPH, rewrite(value)) if number == _GRAPH else raw for number, value, raw in parts)
    except (LookupError, TypeError, ValueError):
        return data


def _with_clip_attributes(graph: "Data") -> bytes:
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


def _with_padding_nodes(graph: "Data") -> bytes:
    return b"".join(
        b"".join(field(_NODE, node) for node in _padded(value)) if number == _NODE else raw
        for number, value, raw in fields(graph)
    )


def _padded(node: "Data") -> "Iterator[Data]":
    """Yield a node; if it is a Conv with unequal padding, a Pad and a Conv without padding."""
    known = message(node)
    pads = _pads(known) if known[_OPERATOR] == [b"Conv"] else []
    if len(pads) != 4 or pads[:2] == pads[2:]:
        yield node
        return
    source, padded = bytes(known[_INPUT][0]), bytes(known[_OUTPUT][0]) + b"/padded"
    yield (
        field(_INPUT, source)
        + field(_OUTPUT, padded)
        + field(_OPERATOR, b"Pad")
        + field(_ATTRIBUTE, _ints_attribute(b"pads", [0, 0, *pads[:2], 0, 0, *pads[2:]]))
        + field(_ATTRIBUTE, field(_ATTRIBUTE_NAME, b"mode") + field(_TEXT, b"constant") + _TYPE_TEXT)
    )
    names = [padded, *known[_INPUT][1:]]
    rest = b"".join(raw for number, value, raw in fields(node) if number != _INPUT and not _is_pads(number, value))
    yield b"".join(field(_INPUT, name) for name in names) + rest + field(_ATTRIBUTE, _ints_attribute(b"pads", [0] * 4))


def _pads(node: "Message") -> List[int]:
    found = [value for value in node.get(_ATTRIBUTE, []) if _is_pads(_ATTRIBUTE, value)]
    return list(message(found[0]).get(_INTS, [])) if found else []


def _is_pads(number: int, value: "Data") -> bool:
    return number == _ATTRIBUTE and message(value)[_ATTRIBUTE_NAME] == [b"pads"]


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


def _scalar(tensor: "Message") -> Optional[float]:
    """Return the number in a tensor that holds one float32, else None."""
    data = (tensor.get(_RAW_DATA) or tensor.get(_FLOAT_DATA) or [b""])[0]
    return struct.unpack("<f", data)[0] if not isinstance(data, int) and len(data) == 4 else None


def _float_attribute(name: bytes, value: float) -> bytes:
    # Field 2 is f.
    return field(_ATTRIBUTE_NAME, name) + b"\x15" + struct.pack("<f", value) + _TYPE_FLOAT


def _ints_attribute(name: bytes, values: "Sequence[int]") -> bytes:
    """Encode an attribute of numbers from 0 to 127."""
    return field(_ATTRIBUTE_NAME, name) + b"".join(bytes([_INTS << 3, value]) for value in values) + _TYPE_INTS
