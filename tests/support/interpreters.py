"""Virtual environments with a device's packages, one for each Python that a board may have.

    python3 tests/support/interpreters.py

Each is kept in the user's cache folder, or in EDGECLF_TEST_HOME, for the next run of tests/product/test_interpreters.py.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NEWEST = ("numpy", "onnxruntime", "opencv-python-headless", "paho-mqtt", "pytest")
PACKAGES = {
    # JetPack 4, 5 and 6: the OpenCV of each, and the last onnxruntime with an aarch64 wheel for its Python.
    "3.6": (
        "pip==21.3.1",
        "numpy==1.19.5",
        "onnxruntime==1.10.0",
        "opencv-python-headless==4.1.1.26",
        "paho-mqtt==1.6.1",
        "pytest==7.0.1",
    ),
    "3.8": (
        "numpy==1.24.4",
        "onnxruntime==1.19.2",
        "opencv-python-headless==4.5.5.64",
        "paho-mqtt==2.1.0",
        "pytest==7.4.4",
    ),
    "3.10": ("numpy==1.26.4", "onnxruntime==1.23.2", "opencv-python-headless==4.8.0.76", "paho-mqtt", "pytest"),
    "3.12": NEWEST,
    "3.13": NEWEST,
}
AT_ONCE = 2


def prepare() -> dict[str, str | None]:
    """Return by version an interpreter with a device's packages, or None if there is none."""

    def one(version):
        base = find_python(version)
        return base and make_environment(base, PACKAGES[version])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(PACKAGES, pool.map(one, PACKAGES)))


def find_python(version: str) -> str | None:
    """Return a Python of that version that really starts: a shim of pyenv may lead nowhere."""
    installed = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in [shutil.which(f"python{version}"), *map(str, installed)]:
        if candidate:
            started = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
            if started.stdout.strip() == version:
                return candidate
    return None


def make_environment(base: str, packages: tuple[str, ...]) -> str:
    """Return the python of a virtual environment with these packages, made now or on an earlier run."""
    environment = home() / hashlib.sha256(repr((base, packages)).encode()).hexdigest()[:16]
    python = environment / "bin" / "python"
    if not (environment / "complete").is_file():
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([base, "-m", "venv", environment], check=True)
        # Only the first: the pip that comes with Python 3.6 knows no wheel of today.
        for wanted in (packages[:1], packages):
            subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted], check=True)
        # The runtime's child processes write no bytecode (-B), and pip may have compiled nothing (PIP_COMPILE=0): each child
        # would compile numpy again.  This process keeps what it compiles.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        subprocess.run([python, "-c", "import cv2, numpy, onnxruntime, paho.mqtt.client, pytest"], env=kept, check=True)
        (environment / "complete").touch()
    return str(python)


def home() -> Path:
    """Return the folder that keeps what is installed here."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "edgeclf-tests"
    return Path(os.environ.get("EDGECLF_TEST_HOME") or cache)


if __name__ == "__main__":
    prepare()
