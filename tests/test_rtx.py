"""The real plug-in TensorRT-RTX: its refusal where there is no driver, and the golden images where there is a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from tensorrt_rig import BUILDS, RTX_PACKAGE, rig

import edgeclf_runtime
from edgeclf_runtime.bundle import open_bundle
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.runners import rtx
from edgeclf_runtime.selection import open_proven

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
def test_the_real_plug_in_without_a_driver_is_one_sentence():
    home = str(Path(edgeclf_runtime.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((rig(BUILDS), home))}
    done = subprocess.run([sys.executable, "-c", REFUSED], env=environment, capture_output=True, text=True, check=True)
    version, *lines = done.stdout.splitlines()
    assert version == RTX_PACKAGE.split("==")[1]
    assert len(lines) == 1
    assert lines[0].startswith("TensorRT-RTX cannot be loaded (")
    assert "libcuda.so.1" in lines[0]
    assert lines[0].endswith("install or update it, or use another backend with --backend")


@pytest.mark.gpu
def test_the_golden_images_pass_on_a_real_rtx_card(bundle):
    opened = open_bundle(bundle)
    try:
        rtx._devices(onnxruntime, rtx._plug_in())
    except BackendError as error:
        pytest.skip(str(error))
    for name in ("fp32", "fp16", "int8-tensorrt"):
        open_proven(opened, opened.model(name), "tensorrt-rtx").close()
