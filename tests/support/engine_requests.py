"""Requests for a building process, and a receiver of its progress."""

import os

from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.trt.engine_spec import EngineSpec

SPEC = EngineSpec(
    model_sha256="0",
    tensorrt="11.4.0.106",
    gpu="Orin",
    compute_capability="8.7",
    power_mode=None,
    precision="fp32",
    strongly_typed=True,
    max_batch=8,
    optimization_level=3,
    dla=None,
    calibration_sha256=None,
    version_compatible=False,
    hardware_compatible=False,
)


def request(source, plan, timing=None, **other):
    """The specification of an engine of batches up to 8, in the file's own types, with ``other`` fields."""
    sha256 = sha256_file(source) if os.path.isfile(source) else ""
    files = {"source": str(source), "plan": str(plan), "timing": timing}
    return SPEC._replace(**{"model_sha256": sha256, "workspace_bytes": 256 << 20, **files, **other})


class Told:
    """Stands in for a Progress, and passes the messages on."""

    def __init__(self, tell=lambda message: None):
        self._tell = tell

    def __call__(self, message):
        self._tell(message)

    def close(self):
        pass
