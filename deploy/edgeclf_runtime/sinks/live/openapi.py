"""Describes the routes of the live page's server as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""

import json
import re
from typing import TYPE_CHECKING, Dict, Iterable, Optional

from ... import __version__
from ...results import ENDED
from .overview import BRIEF, SHOWN
from .posted.body import FORM, KINDS, MAX_BODY_BYTES

if TYPE_CHECKING:
    from ...files.schema import JsonObject
    from .routes import Answer, Route

_JSON, _TEXT = "application/json", "text/plain; charset=utf-8"
API = "/v1/"  # what is below it is for programs, and so are its errors
_ABOUT = (
    "The results of a camera, and those of pictures that are posted. HEAD is answered wherever GET is. "
    "An error below /v1/ is JSON, elsewhere plain text."
)
# What the server itself answers, whatever the route; and if a token is required.
_PARAMETERS = {"number": "integer", "camera": "string"}
_EVERY = {400: "the request is not valid", 403: "another host name, or another site's page"}
_GUARDED = {401: "no token, or a wrong one", 429: "too many wrong tokens"}


def _number(text: str) -> "JsonObject":
    return {"type": "number", "description": text}


def _text(text: str) -> "JsonObject":
    return {"type": "string", "description": text}


def _whole(text: str) -> "JsonObject":
    return {"type": "integer", "description": text}


def _list(items: "JsonObject", text: str = "") -> "JsonObject":
    return dict({"type": "array", "items": items}, **({"description": text} if text else {}))


def _object(properties: "JsonObject", optional: str = "") -> "JsonObject":
    """Return the schema of an object; ``optional`` holds the names that may be missing."""
    required = [name for name in properties if name not in optional.split()]
    return {"type": "object", "properties": properties, "required": required}


def _named(name: str) -> "JsonObject":
    return {"$ref": "#/components/schemas/" + name}


_ORIGIN = {
    "bundle": _text("first 12 digits of the bundle's id"),
    "device": _text("the device's name"),
    "camera": _text("the camera's name among several"),
}
_RESULT = {
    "label": _text('the label, or "unknown" if it was rejected'),
    "rejected": {"type": "boolean"},
    "candidate": _text("the likeliest label"),
    "confidence": _number("of the candidate, 0 to 1"),
    "reason": {"type": "string", "enum": ["confidence", "distance"], "description": "why it was rejected"},
    "distance": _number("from the training images"),
    "label_set": _list({"type": "string"}, "the labels that the picture may have"),
    "nearest": _list(
        _object({"label": {"type": "string"}, "image": _whole("its number")}), "the nearest training images"
    ),
    "top": _list(_object({"label": {"type": "string"}, "confidence": _number("0 to 1")})),
    "timings_ms": {"type": "object", "additionalProperties": {"type": "number"}, "description": "of each stage"},
    "model": _text("the model in use"),
    "backend": _text("the backend in use"),
    **_ORIGIN,
}
_SOMETIMES = "reason distance label_set nearest bundle device camera "
_LABEL_EVENT = {
    "number": _whole("counts all events from 1"),
    "event": {"type": "string", "enum": ["start", "end"]},
    "id": _text("the same at start and end"),
    "label": _text("the label that has come, or gone"),
    "started_at": _number("seconds since 1970"),
    "start_frame": _whole("number of the first frame"),
    "position_s": _number("its position in a video file"),
    "ended_at": _number("seconds since 1970"),
    "duration_s": _number("by the camera's own time"),
    "reason": {"type": "string", "enum": list(ENDED), "description": "why it has ended"},
    "frames": _whole("frames with the label"),
    "confidence": _number("the highest"),
    "best_frame": _whole("number of the frame with it"),
    "best_at": _number("seconds since 1970"),
    "best_name": _text("its file's name"),
    **_ORIGIN,
}
_STATE_EVENT = {
    "number": _whole("counts all events from 1"),
    "state": {"type": "string", "enum": ["live", "lost", "degraded", "restored", "changed", "normal"]},
    "reason": _text("what happened"),
    "at": _number("seconds since 1970"),
    "verdicts": _list({"type": "string"}, "in what the pictures differ from training"),
    **_ORIGIN,
}
_STATE = {
    "title": _text("the bundle's name"),
    "camera": _text("the camera's name among several"),
    "shared": {"type": "boolean", "description": "whether there is a page of all cameras"},
    "labels": _list({"type": "string"}, "in the order of the logits"),
    "state": {"type": "string", "enum": ["live", "lost", "silent"]},
    "state_s": _number("seconds in that state"),
    "reason": _text("why the camera is lost"),
    "degraded": _text("why a worse backend has taken over"),
    "changed": _list({"type": "string"}, "in what the pictures differ from training"),
    "changed_reason": _text("the same, with the figures"),
    "frames": _whole("results so far"),
    "events": _whole("events of labels and states so far"),
    "frames_per_s": _number("over the last seconds"),
    "dropped": _whole("frames that were not classified"),
    "region": {
        "anyOf": [
            _list({"type": "number"}, "x, y, width and height, as fractions of the frame's sides"),
            {"type": "null"},
        ]
    },
    "result": {"anyOf": [_named("FrameResult"), {"type": "null"}]},
    "why": _text("why the result is unknown"),
    "nearest": _list(
        _object({"label": {"type": "string"}, "picture": {"type": ["string", "null"]}}), "the nearest training images"
    ),
    "room": _list({"type": "string"}, "what the page keeps room for"),
}
_CAMERA = {
    "name": {"type": "string"},
    "address": _text("of its own page, relative to the page of all cameras"),
    **{name: schema for name, schema in _STATE.items() if name in BRIEF},
    "result": {"anyOf": [_object({name: _RESULT[name] for name in SHOWN}), {"type": "null"}]},
}
_FRAME_RESULT = {
    "frame": _whole("the frame's number"),
    "state": {"type": "string", "enum": ["live"]},
    "name": _text("the file's name"),
    "position_s": _number("position in a video file"),
    "captured_at": _number("seconds since 1970"),
    "age_ms": _number("from the capture to the label"),
    **_RESULT,
}
SCHEMAS = {
    "Error": _object({"error": _text("what was found, what was expected, and what to do")}),
    "Result": _object(_RESULT, _SOMETIMES),
    "FrameResult": _object(_FRAME_RESULT, _SOMETIMES + "name position_s"),
    "State": _object(_STATE),
    "LabelEvent": _object(_LABEL_EVENT, "position_s ended_at duration_s reason best_name bundle device camera"),
    "StateEvent": _object(_STATE_EVENT, "verdicts bundle device camera"),
    "Cameras": _object({"title": _text("the bundle's name"), "cameras": _list(_object(_CAMERA))}),
    "Labels": _object(
        {
            "slot_s": _number("seconds of a slot"),
            "runs": _list(
                _object({"label": {"type": ["string", "null"]}, "slots": _whole("as many slots with this label")}),
                "an hour, the newest last; null without results",
            ),
        }
    ),
    "Events": _object(
        {
            "now": _number("the device's clock, seconds since 1970"),
            "events": _list({"anyOf": [_named("LabelEvent"), _named("StateEvent")]}, "the newest last"),
        }
    ),
}


def document(routes: "Iterable[Route]", guarded: bool) -> "JsonObject":
    """Return the OpenAPI document of routes.

    guarded     whether the server requires a token
    """
    paths = {route.path: {route.method.lower(): _operation(route, guarded)} for route in routes}
    components: "JsonObject" = {"schemas": _named_in(paths)}
    if guarded:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "edgeclf", "version": __version__, "description": _ABOUT},
        # Relative to this document, because a proxy may serve it under another path.
        "servers": [{"url": ".."}],
        "paths": paths,
        "components": components,
    }


def _named_in(facts: object) -> "Dict[str, JsonObject]":
    """Return the schemas that are named, and those that these name."""
    found: "Dict[str, JsonObject]" = {}
    while True:
        names = set(re.findall('"#/components/schemas/([A-Za-z]+)"', json.dumps([facts, found])))
        more = {name: schema for name, schema in SCHEMAS.items() if name in names}
        if more == found:
            return found
        found = more


def _operation(route: "Route", guarded: bool) -> "JsonObject":
    operation: "JsonObject" = {
        "operationId": "_".join(re.findall(r"\w+", route.path)) or "page",
        "summary": route.summary,
        "responses": _responses(route, guarded and not route.open),
    }
    named = re.findall(r"{(\w+)}", route.path)
    if named:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": _PARAMETERS[name]}} for name in named
        ]
    if route.method == "POST":
        operation["requestBody"] = {"required": True, "content": _bodies()}
    if guarded:
        operation["security"] = [] if route.open else [{"token": []}]
    return operation


def _bodies() -> "Dict[str, JsonObject]":
    form = {"type": "object", "minProperties": 1, "maxProperties": 1, "description": "one file, under any name"}
    whole = {"description": "an image file of at most {} bytes".format(MAX_BODY_BYTES)}
    return {kind: {"schema": form if kind == FORM else whole} for kind in (*KINDS, "image/*")}


def _responses(route: "Route", guarded: bool) -> "Dict[str, JsonObject]":
    texts = {**_EVERY, **(_GUARDED if guarded else {})}
    if guarded and route.method == "GET":
        texts[303] = "the same address without the token, which was in the query"
    kinds = {}
    for answer in (answer for answer in route.answers if guarded or answer.status not in _GUARDED):
        texts[answer.status] = "; or ".join(filter(None, (texts.get(answer.status), answer.text)))
        kinds[answer.status] = answer
    return {str(status): _response(route, status, text, kinds.get(status)) for status, text in sorted(texts.items())}


def _response(route: "Route", status: int, text: str, answer: "Optional[Answer]") -> "JsonObject":
    if status == 303:
        return {"description": text}
    if answer is not None and answer.kind:
        schema = _named(answer.schema) if answer.schema else {}
        return {"description": text, "content": {answer.kind: {"schema": schema}}}
    if API in route.path:
        return {"description": text, "content": {_JSON: {"schema": _named("Error")}}}
    return {"description": text, "content": {_TEXT: {"schema": {"type": "string"}}}}
