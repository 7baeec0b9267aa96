"""What a building process is asked for, and who is told of its progress."""

from __future__ import annotations

import os

from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.trt.child import Request


def request(source, plan, **other):
    """A Request for an engine of batches up to 8, in the file's own types."""
    facts = {
        "source": str(source),
        "source_sha256": sha256_file(source) if os.path.isfile(source) else "",
        "plan": str(plan),
        "strongly_typed": True,
        "flags": (),
        "exact": True,
        "batches": (1, 1, 8),
        "workspace_bytes": 256 << 20,
        "optimization_level": 3,
    }
    return Request(**{**facts, **other})


class Told:
    """Stands where a Progress stands, and hands on what it is told."""

    def __init__(self, tell=lambda message: None):
        self._tell = tell

    def __call__(self, message):
        self._tell(message)

    def close(self):
        pass
