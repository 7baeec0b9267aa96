"""Protobuf's wire format, enough to read and write an ONNX file as bytes: a device has no ``onnx`` package.

Source: https://protobuf.dev/programming-guides/encoding.
"""

from typing import Any, Dict, Iterator, List, Tuple, Union

Data = Union[bytes, memoryview]
# Values by field number; the number of a field tells its type.
Message = Dict[int, List[Any]]


def message(data: Data) -> Message:
    """Return a message's values by field number."""
    values: Message = {}
    for number, value, _ in fields(data):
        values.setdefault(number, []).append(value)
    return values


def fields(data: Data) -> Iterator[Tuple[int, Any, Data]]:
    """Yield each field's number, value (int or bytes) and whole encoding.

    Raises ValueError or LookupError if the data are not a message.
    """
    value: Any
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


def _varint(data: Data, at: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
        if shift >= 70:
            raise ValueError("a number has more than ten bytes")


def field(number: int, payload: Union[bytes, memoryview]) -> bytes:
    """Encode a field that holds bytes."""
    return _write_varint(number << 3 | 2) + _write_varint(len(payload)) + bytes(payload)


def _write_varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes(written + bytes([value]))
