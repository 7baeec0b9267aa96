"""A process that classifies parts for local.py, which starts it.

It gets the folder as a line of JSON, then the numbers of parts; it writes the index of each image before it reads that, then
"done", or, at an error, its message as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from ...display.json_file import json_line
from ...errors import EdgeclfError
from .part import classify_part


def main() -> None:
    """Classify parts until there are no more orders."""
    # Ctrl-C is for the parent, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(os.dup(1), "wb", buffering=0) as answers:
        # Whatever a library prints is no answer.
        os.dup2(2, 1)
        folder = json.loads(sys.stdin.readline())
        for line in sys.stdin:
            try:
                for index in classify_part(folder, int(line)):
                    answers.write(b"%d\n" % index)
            except EdgeclfError as error:
                answers.write(json_line(str(error)))
            else:
                answers.write(b"done\n")
