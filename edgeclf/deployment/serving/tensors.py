"""Requests and answers of the Open Inference Protocol, version 2, in JSON and with the extension for binary tensors.

https://github.com/open-inference/open-inference-protocol and Triton's ``protocol/extension_binary_data.md`` define them.  The
tensors are those of the ONNX file: ``image`` in, ``logits`` out, and ``features`` if the model's distances are computed from them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from edgeclf_runtime.classify.classifier import Inferred
from edgeclf_runtime.files.schema import (
    JsonObject,
    SchemaError,
    any_json,
    integer,
    list_of,
    mapping,
    parse_json,
    record,
    text,
)
from edgeclf_runtime.runners.base import FEATURES

from ...display.json_file import json_bytes
from ...graph.onnx_file import INPUT, OUTPUT
from .models import Served
from .refusal import Refusal

JSON_SIZE = "Inference-Header-Content-Length"
"""Header with the size of the JSON before binary tensors."""
_MOST_JSON = 8 << 20
_TYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "UINT8": np.dtype("u1")}
_PARAMETERS = mapping(text(), any_json, 100)
_REQUEST = record(
    {
        "id": text(".*", "a text of up to 1000 characters"),
        "parameters": _PARAMETERS,
        "inputs": list_of(
            record(
                {
                    "name": text(),
                    "shape": list_of(integer(0), 0, 8),
                    "datatype": text(),
                    "parameters": _PARAMETERS,
                    "data": any_json,
                },
                ("parameters", "data"),
            ),
            0,
            16,
        ),
        "outputs": list_of(record({"name": text(), "parameters": _PARAMETERS}, ("parameters",)), 0, 16),
    },
    ("id", "parameters", "outputs"),
)


class Request(NamedTuple):
    """An inference that a client asks for.

    batch: the model's input, float32 [N, height, width, 3].  binary: whether each output that it wants is to be binary, by name.
    """

    batch: np.ndarray
    binary: dict[str, bool]
    id: str | None


def parse(served: Served, data: bytes, json_size: str | None) -> Request:
    """Return the Request in a body; Refusal with status 400 if it is not valid or does not fit the model.

    json_size: value of the header JSON_SIZE, if there is one.
    """
    try:
        size = len(data) if json_size is None else int(json_size)
        if not 0 <= size <= len(data):
            raise ValueError
    except ValueError:
        raise Refusal(400, f"{JSON_SIZE} is {str(json_size)[:40]!r}; 0 to {len(data)} was expected") from None
    if size > _MOST_JSON:
        raise Refusal(
            400, f"the request has {size / 1e6:.1f} MB of JSON; send tensors of more than 8 MB as binary data"
        )
    try:
        request: JsonObject = parse_json(data[:size])
        _REQUEST(request, "")
    except SchemaError as error:
        raise Refusal(400, f"the request: {error}") from None
    [given] = _named_once(request["inputs"], (INPUT,), "input")
    batch = _batch(served, given, memoryview(data)[size:])
    return Request(batch, _binary(served, request), request.get("id"))


def answer(served: Served, request: Request, inferred: Inferred) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the size of its JSON if tensors follow it."""
    values = {OUTPUT: inferred.logits, FEATURES: inferred.features}
    outputs: list[JsonObject] = []
    binary: list[bytes] = []
    for name, is_binary in request.binary.items():
        tensor = values[name]
        if tensor is None:  # a worse model has taken over meanwhile
            raise Refusal(503, f"the model gives no {name} at present; ask for {OUTPUT} only", {"Retry-After": "60"})
        output: JsonObject = {"name": name, "datatype": "FP32", "shape": list(tensor.shape)}
        if is_binary:
            binary.append(tensor.astype("<f4").tobytes())
            outputs.append({**output, "parameters": {"binary_data_size": len(binary[-1])}})
        else:
            outputs.append({**output, "data": tensor.ravel().tolist()})
    facts: JsonObject = {"model_name": served.name, "model_version": served.version, "outputs": outputs}
    head = json_bytes(facts if request.id is None else {**facts, "id": request.id})
    return b"".join([head, *binary]), len(head) if binary else None


def metadata(served: Served) -> JsonObject:
    """Return what a model takes and gives."""
    spec = served.classifier.preprocessing
    labels = served.classifier.labels
    outputs = [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(labels)]}]
    known = served.classifier.in_use.rejection.known
    if known is not None:
        outputs.append({"name": FEATURES, "datatype": "FP32", "shape": [-1, known.features]})
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": f"{served.classifier.backend}_onnx",
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, spec.height, spec.width, 3]}],
        "outputs": outputs,
        "parameters": {
            "input": f"preprocessed pixels, {spec.color}, 0 to 255, as FP32 or UINT8; /classify takes image files",
            "preprocessing": spec._asdict(),
            "labels": list(labels),
        },
    }


def _named_once(given: list[JsonObject], known: tuple[str, ...], what: str) -> list[JsonObject]:
    names = [one["name"] for one in given]
    if not names or set(names) - set(known) or len(set(names)) < len(names):
        found = ", ".join(names) or "none"
        raise Refusal(400, f"the {what}s are {found[:200]}; {', '.join(known)} was expected, once")
    return given


def _batch(served: Served, given: JsonObject, binary: memoryview) -> np.ndarray:
    spec = served.classifier.preprocessing
    shape, kind = given["shape"], _TYPES.get(given["datatype"])
    if kind is None:
        raise Refusal(400, f"{INPUT} has the datatype {given['datatype'][:40]!r}; {' or '.join(_TYPES)} was expected")
    if len(shape) != 4 or shape[0] < 1 or shape[1:] != [spec.height, spec.width, 3]:
        raise Refusal(400, f"{INPUT} has the shape {shape}; [N, {spec.height}, {spec.width}, 3] was expected")
    size = given.get("parameters", {}).get("binary_data_size")
    if (size is None) == ("data" not in given):
        raise Refusal(400, f"{INPUT} needs either data or the parameter binary_data_size, and not both")
    expected = math.prod(shape)
    if size is None:
        if len(binary):
            raise Refusal(400, f"{len(binary)} bytes follow the JSON, but no input is binary")
        values = _numbers(given["data"], expected, kind)
    else:
        if size != expected * kind.itemsize or isinstance(size, bool) or len(binary) != size:
            raise Refusal(
                400,
                f"{INPUT} has {len(binary)} bytes, and binary_data_size is {str(size)[:40]}; {expected * kind.itemsize} were expected",
            )
        values = np.frombuffer(binary, kind)
    batch = values.astype(np.float32).reshape(shape)
    # Other values could give logits that are not finite, for which the backend would be replaced.
    if not (batch.min() >= 0 and batch.max() <= 255):
        raise Refusal(400, f"{INPUT} has values outside of 0 to 255, or that are not numbers; pixels were expected")
    return batch


def _numbers(data: object, expected: int, kind: np.dtype[Any]) -> np.ndarray:
    """Return numbers of JSON, flat or nested, as a flat array."""
    try:
        values = np.asarray(data)
    except ValueError:  # the lists have different lengths
        values = np.empty(0, object)
    whole = kind.kind == "u"
    if values.dtype.kind not in ("iu" if whole else "iuf") or values.size != expected:
        what = (
            f"{values.size} values"
            if values.dtype.kind in "iuf"
            else "something else than equally long lists of numbers"
        )
        raise Refusal(400, f"the data of {INPUT} is {what}; {expected} {'whole ' * whole}numbers were expected")
    return values.ravel()


def _binary(served: Served, request: JsonObject) -> dict[str, bool]:
    known = tuple(output["name"] for output in metadata(served)["outputs"])
    default = request.get("parameters", {}).get("binary_data_output", False)
    outputs = request.get("outputs") or [{"name": name} for name in known]
    found = {}
    for output in outputs:
        parameters = output.get("parameters", {})
        if "classification" in parameters:
            raise Refusal(400, "the extension for classifications is not supported; /classify gives labels")
        found[output["name"]] = parameters.get("binary_data", default)
    _named_once(outputs, known, "output")
    for value in found.values():
        if not isinstance(value, bool):
            raise Refusal(400, "binary_data and binary_data_output are true or false")
    return found
