"""The program that makes the picture in README.md."""

import importlib.util
import shutil
import socket
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.support.cameras import free_port
from tests.support.pages import ROOT

PROGRAM = ROOT / "docs/make_picture.py"


@pytest.fixture(scope="module")
def program():
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("make_picture", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_is_there_once_its_port_answers(program):
    port = free_port()
    assert not program.answers(port)
    with socket.create_server(("127.0.0.1", port)):
        assert program.answers(port)


def test_the_readme_shows_a_picture_of_the_programs_size(program):
    picture = cv2.imread(str(ROOT / "docs/images/live.png"))
    assert picture.shape == (program.HEIGHT, program.WIDTH, 3)
    assert "(docs/images/live.png)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/make_picture.py" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_picture_shows_the_page_of_a_running_bundle(program, bundle, tmp_path):
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("chromium or chromium-driver is not installed")
    output = tmp_path / "live.png"
    command = [sys.executable, PROGRAM, bundle, "test://", output, "--frames", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(output))
    assert picture.shape == (program.HEIGHT, program.WIDTH, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50, "an empty page has few colors"
