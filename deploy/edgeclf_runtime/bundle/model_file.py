"""Reads a model file's bytes, and refuses one that would make a backend read other files.

An ONNX file can refer to others: tensors as external data, which ONNX Runtime up to 1.19 reads from any path of the
machine, and compiled contexts.  A bundle's models contain everything they need.  Field numbers: onnx.proto.
"""

from typing import TYPE_CHECKING, Union

from ..errors import BackendError
from ..files.read import AnyPath, read_bytes
from .onnx_wire import fields

if TYPE_CHECKING:
    import mmap

    from .open_bundle import VerifiedFile

# Protobuf limits a message to 2 GB.
MAX_BYTES = (2 << 30) - 1
_MOST_LEVELS = 64
# The fields of each message that lead to tensors, and the messages in them.
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
ModelSource = Union[AnyPath, "VerifiedFile"]


def model_bytes(model: ModelSource) -> bytes:
    """Return the bytes of a model file: a path, or a VerifiedFile, whose hash is checked.

    Raises BackendError if it cannot be read or refers to other files, BundleError if it differs from the verified file.
    """
    if hasattr(model, "read"):
        data = model.read()
    else:
        try:
            data = read_bytes(model, MAX_BYTES)
        except (OSError, ValueError) as error:
            raise BackendError(
                "{} cannot be read ({}); an ONNX file was expected".format(
                    model, getattr(error, "strerror", "") or error
                )
            )
    reason = foreign_reference(data)
    if reason:
        raise BackendError(
            "{} {}; a model that contains all its data was expected: save it again as one file".format(model, reason)
        )
    return data


def foreign_reference(data: "Union[bytes, mmap.mmap]") -> str:
    """Return why an ONNX file's bytes, or a map of them, depend on another file, as the end of a sentence, or ""."""
    if data[4:8] == b"ORTM":
        return "is in ONNX Runtime's own format, not ONNX"
    if data.find(b"EPContext") >= 0:
        return "refers to a compiled context (EPContext)"
    # The key of an external data path: without it, nothing is external.
    if data.find(b"location") < 0:
        return ""
    try:
        return "keeps data in another file (external data)" if _external(memoryview(data[:]), "model", 0) else ""
    except (LookupError, TypeError, ValueError):
        return "cannot be searched for external data: it is damaged"


def _external(data: memoryview, kind: str, level: int) -> bool:
    if level > _MOST_LEVELS:
        raise ValueError("nested too deeply")
    inner = _MESSAGES.get(kind, {})
    for number, value, _ in fields(data):
        if kind == "tensor":
            if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                return True
        elif number in inner and not isinstance(value, int) and _external(value, inner[number], level + 1):
            return True
    return False
