"""Protobuf's wire format, as far as an ONNX file is read and written as bytes: a device has no ``onnx`` package.

Source: https://protobuf.dev/programming-guides/encoding.
"""

from typing import Dict


def message(data):
    """Return a message's values by their fields' numbers."""
    values: Dict[int, list] = {}
    for number, value, _ in fields(data):
        values.setdefault(number, []).append(value)
    return values


def fields(data):
    """Yield number, value and whole encoding of each field of a message: int, or bytes.

    Raises ValueError or LookupError for what is not a message.
    """
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
        if shift >= 70:
            raise ValueError("a number has more than the ten bytes that the format allows")


def field(number, payload):
    """Return the encoding of a field that holds bytes."""
    return _write_varint(number << 3 | 2) + _write_varint(len(payload)) + bytes(payload)


def _write_varint(value):
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes(written + bytes([value]))
