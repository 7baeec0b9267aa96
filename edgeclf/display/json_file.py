"""JSON as every program reads it, without NaN and Infinity; whatever the host writes as JSON comes through here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path


def finite(value: object) -> object:
    """Return a value as JSON has it, which lacks numbers that are not finite: None stands for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def json_text(value: object, indent: int | None = None) -> str:
    """Return a value as JSON; texts stand for values that JSON lacks, such as paths."""
    return json.dumps(finite(value), ensure_ascii=False, indent=indent, allow_nan=False, default=str)


def json_line(value: object) -> bytes:
    """Return a value as a line of JSON in ASCII, from which a program gets every name again, even one that is not UTF-8."""
    return json.dumps(finite(value), allow_nan=False).encode() + b"\n"


def json_bytes(value: object, indent: int | None = None) -> bytes:
    """Return json_text() in UTF-8; a name may be no valid text, and JSON has an escape for such characters too."""
    return json_text(value, indent).encode("utf-8", "backslashreplace")


def write_json(path: str | Path, value: object) -> None:
    """Write a value as an indented JSON file."""
    Path(path).write_bytes(json_bytes(value, indent=1) + b"\n")
