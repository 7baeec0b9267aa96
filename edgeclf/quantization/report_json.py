"""Turns a QuantizeReport into the form of quantization.json, and back."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from edgeclf_runtime.files.schema import JsonObject

_BESIDE = ("comparison", "findings")
"""Fields of a file whose own fields stand beside it in JSON."""


def flat(value: object) -> Any:
    """Return a report in the form of quantization.json; to_json() writes numbers that are not finite as null."""
    if isinstance(value, (tuple, list)):
        return [flat(item) for item in value]
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items()}
    if not is_dataclass(value):
        return value
    row: JsonObject = {}
    for one in fields(value):
        inner = flat(getattr(value, one.name))
        row.update(inner if one.name in _BESIDE else {one.name: inner})
    return row


def restore(kind: Any, value: object) -> Any:
    """Return what flat() made ``value`` from; ValueError if it is not of that type."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is not None and type(None) in inner:
        return None if value is None else restore(inner[0], value)
    if kind is float:
        return math.nan if value is None else float(_typed((int, float), value))
    if origin is tuple:
        items = _typed((list,), value)
        kinds = inner[:1] * len(items) if inner[1:] == (...,) else inner
        return tuple(restore(one, item) for one, item in zip(kinds, items, strict=True))
    if origin is dict:
        return {key: restore(inner[1], item) for key, item in _typed((dict,), value).items()}
    if not is_dataclass(kind):
        return _typed((kind,), value)
    return _fields(kind, _typed((dict,), value))


def _fields(kind: Any, given: JsonObject) -> Any:
    hints = get_type_hints(kind)
    try:
        return kind(
            **{
                one.name: restore(hints[one.name], given if one.name in _BESIDE else given[one.name])
                for one in fields(kind)
                if one.name in _BESIDE or one.name in given or one.default is MISSING
            }
        )
    except KeyError as error:
        raise ValueError(f"the field {error} is missing") from None


def _typed(kinds: tuple[type, ...], value: object) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{str(value)[:60]!a} has the type {type(value).__name__}; {kinds[-1].__name__} was expected")
    return value
