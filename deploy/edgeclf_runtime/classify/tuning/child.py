"""The measuring process: opens candidates, measures them in turns, and reports each figure.

Started by ``classify/tuning/parent.py``.  It is a separate process because a library may crash or hang with a model, and
because libraries and their threads stay in a process that has loaded them.  It ends when its parent ends.

The parent writes a Request as a line of JSON to stdin.  The answers over the pipe are lines of JSON: ``{"doing": name}``
before each step, ``{"name": name, "ms": median so far}`` after each block of inferences, ``{"name": name, "failed": reason}``,
and at last ``{"done": name of the best, or ""}``.
"""

import contextlib
import json
import os
import sys
from typing import Any, Dict

from ...runners.openvino import expendable
from .contest import measure
from .request import Request


def main(link_handle: int) -> None:
    """Measure what stdin asks for."""
    link = os.fdopen(link_handle, "w")

    def send(message: Dict[str, Any]) -> None:
        link.write(json.dumps(message) + "\n")
        link.flush()

    request = Request.from_json(sys.stdin.readline())
    # If memory runs out, this process is killed and not the one that classifies.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
        stream.write("1000")
    with expendable():
        measure(*request, send)
