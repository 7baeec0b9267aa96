"""The measuring process: opens candidates, measures them in turns, and reports each figure.

Started by ``classify/tuning/parent.py``.  It is a separate process because a library may crash or hang with a model, and
because libraries and their threads stay in a process that has loaded them.  It ends when its parent ends.

The parent writes a Request as a line of JSON to stdin.  The answers over the pipe are lines of JSON: ``{"doing": name}``
before each step, ``{"name": name, "ms": median so far}`` after each block of inferences, ``{"name": name, "failed": reason}``,
``{"best": name}`` or ``{"best": ""}``, and at last ``{"done": True, "others": share of the processors that other programs took}``.
"""

import json
import os
import sys
from typing import TYPE_CHECKING, Optional, Tuple

from ...device.child_process import die_first
from ...device.machine import processor_seconds
from ...runners.openvino import expendable
from .measure import measure
from .request import Request

if TYPE_CHECKING:
    from ...files.schema import JsonObject


def main(link_handle: int) -> None:
    """Measure what stdin asks for."""
    link = os.fdopen(link_handle, "w")

    def send(message: "JsonObject") -> None:
        link.write(json.dumps(message) + "\n")
        link.flush()

    request = Request.from_json(sys.stdin.readline())
    die_first()
    before = _seconds()
    with expendable():
        measure(*request, send)
    send({"done": True, "others": _share_of_others(before, _seconds())})


def _seconds() -> Optional[Tuple[float, float, float]]:
    """Return the seconds that all processors existed and were busy, and that this process used; None if unknown."""
    found = processor_seconds()
    return None if found is None else (found[0], found[1], sum(os.times()[:2]))


def _share_of_others(
    before: Optional[Tuple[float, float, float]], after: Optional[Tuple[float, float, float]]
) -> float:
    """Return the share of the processors that other programs took; 0 if unknown."""
    if before is None or after is None or after[0] <= before[0]:
        return 0.0
    existed, busy, own = (late - early for early, late in zip(before, after))
    return round(max(0.0, busy - own) / existed, 2)
