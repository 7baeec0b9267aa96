"""The runtime's tests on an emulated Cortex-A57, a Jetson Nano's core; ``runtime/arm64.py`` runs them with more OpenCVs."""

import os
import shutil
from pathlib import Path

import pytest
from runtime import arm64

needed = pytest.mark.skipif(
    shutil.which("qemu-aarch64-static") is None or shutil.which("apt-get") is None or os.getuid() != 0,
    reason="a Debian, root and the package qemu-user-static are needed to run arm64 here",
)


@needed
@pytest.mark.slow
def test_the_runtime_works_on_a_jetson_nanos_core(bundle, tmp_path):
    folder = os.environ.get("EDGECLF_TEST_HOME") or Path.home() / ".cache" / "edgeclf-tests"
    assert arm64.main(bundle, Path(folder) / "arm64", "4.8.0.76") == 0
