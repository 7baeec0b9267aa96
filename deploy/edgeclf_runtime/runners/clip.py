"""The one thing in which OpenCV's readers of ONNX differ: where Clip has its bounds.

Since opset 11 they are inputs.  OpenCV 4.5.4 (JetPack 5) refuses that, and 4.1.1 (JetPack 4)
takes any bounds for 0 and 6; as attributes, the form of opset 6, they are right in 4.1.1, 4.5.5,
4.6 and 5.0.  The file is rewritten as bytes, because a device has no ``onnx`` package.

Wire format: https://protobuf.dev/programming-guides/encoding; field numbers: onnx.proto.
"""

import struct
from typing import Dict

_GRAPH = 7  # of a model
_NODE, _INITIALIZER = 1, 5  # of a graph
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5  # of a node
_TENSOR = 5  # of an attribute
_FLOAT_DATA, _NAME, _RAW_DATA = 4, 8, 9  # of a tensor
_SCALAR_BYTES = 128  # a tensor of one number, with its name, is no longer
_LARGEST = 3.4028234663852886e38  # a bound that is left out


def give_clip_attributes(data):
    """Return an ONNX file's bytes with the constant bounds of every Clip as attributes.

    What is no ONNX file comes back as it is; its reader tells better what is wrong.
    """
    try:
        parts = list(_fields(memoryview(data)))
        return b"".join(_field(_GRAPH, _graph(value)) if number == _GRAPH else raw for number, value, raw in parts)
    except (LookupError, TypeError, ValueError):
        return data


def _graph(graph):
    parts = list(_fields(graph))
    bounds = {b"": None}
    for number, value, _ in parts:
        if number == _INITIALIZER and len(value) <= _SCALAR_BYTES:
            tensor = _message(value)
            bounds[bytes(tensor[_NAME][0])] = _scalar(tensor)
        elif number == _NODE:
            node = _message(value)
            if node[_OPERATOR] == [b"Constant"]:
                tensor = _message(_message(node[_ATTRIBUTE][0]).get(_TENSOR, [b""])[0])
                bounds[bytes(node[_OUTPUT][0])] = _scalar(tensor)
    return b"".join(_field(_NODE, _node(value, bounds)) if number == _NODE else raw for number, value, raw in parts)


def _node(node, bounds):
    fields = _message(node)
    given = [bytes(name) for name in fields.get(_INPUT, [])[1:]]
    if fields[_OPERATOR] != [b"Clip"] or not given or any(name and bounds.get(name) is None for name in given):
        return node
    low, high = ([bounds[name] for name in given] + [None])[:2]
    rest = b"".join(raw for number, _, raw in _fields(node) if number != _INPUT)
    return (
        _field(_INPUT, fields[_INPUT][0])
        + rest
        + _field(_ATTRIBUTE, _float_attribute(b"min", -_LARGEST if low is None else low))
        + _field(_ATTRIBUTE, _float_attribute(b"max", _LARGEST if high is None else high))
    )


def _scalar(tensor):
    """Return the number of a tensor that holds one float32, else None."""
    data = (tensor.get(_RAW_DATA) or tensor.get(_FLOAT_DATA) or [b""])[0]
    return struct.unpack("<f", data)[0] if not isinstance(data, int) and len(data) == 4 else None


def _float_attribute(name, value):
    # Fields 1 (name), 2 (f) and 20 (type, FLOAT being 1).
    return _field(1, name) + b"\x15" + struct.pack("<f", value) + b"\xa0\x01\x01"


def _message(data):
    """Return a message's values by their fields' numbers."""
    values: Dict[int, list] = {}
    for number, value, _ in _fields(data):
        values.setdefault(number, []).append(value)
    return values


def _fields(data):
    """Yield number, value and whole encoding of each field of a message: int, or bytes."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        if key & 7 == 0:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            value, at = data[at : at + size], at + size
        if at > len(data):
            raise ValueError("a field is cut off")
        yield key >> 3, value, data[start:at]


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _field(number, payload):
    return _write_varint(number << 3 | 2) + _write_varint(len(payload)) + bytes(payload)


def _write_varint(value):
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes(written + bytes([value]))
