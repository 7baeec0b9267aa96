"""The real plug-in TensorRT-RTX: its error without a driver; test_gpu.py runs it on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgeclf_runtime
from tests.support.tensorrt_rig import BUILDS, RTX_PACKAGE, rig

REFUSED = """
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.runners import backend_version, open_runner
print(backend_version("tensorrt-rtx"))
try:
    open_runner("tensorrt-rtx", "model.fp32.onnx")
except BackendError as error:
    print(error)
"""


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU")
def test_the_real_plug_in_without_a_driver_gives_a_one_line_error():
    home = str(Path(edgeclf_runtime.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((rig(BUILDS), home))}
    done = subprocess.run([sys.executable, "-c", REFUSED], env=environment, capture_output=True, text=True, check=True)
    version, *lines = done.stdout.splitlines()
    assert version == RTX_PACKAGE.split("==")[1]
    assert len(lines) == 1
    assert lines[0].startswith("TensorRT-RTX cannot be loaded (")
    assert "libcuda.so.1" in lines[0]
    assert lines[0].endswith("install or update it, or use another backend with --backend")
