"""The device runtime on the Pythons and libraries that devices have, started as a user starts it.

Each interpreter that is found gets a virtual environment with a device's packages and nothing
else; it is kept in the user's cache folder (or in EDGECLF_TEST_HOME) for the next run.  One more
is an emulated Cortex-A57, a Jetson Nano's core; ``support/arm64.py`` runs it with more OpenCVs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.golden import read_golden
from tests.support.arm64 import CAN_EMULATE, TESTED_OPENCV
from tests.support.interpreters import AT_ONCE, PACKAGES, home, prepare
from tests.support.pictures import noise

ROOT = Path(__file__).parents[2]
MARKS = "" if os.environ.get("EDGECLF_TEST_WHOLE") else "not slow"
"""EDGECLF_TEST_WHOLE=1 runs every test on each of them; the host's own Python always does."""
# The oldest Python runs every quick test.  On those between, only libraries differ: what reads images and video, and what
# runs models.  The newest two have the libraries of the host, whose Python runs every test; what differs is the standard
# library, and most between the last two.
READERS = tuple(f"capture/test_{name}.py" for name in ("containers", "frame_layouts", "opencv_reader", "video_file"))
LIBRARIES = ("bundle", "images", *READERS, "runners", "test_fake.py", "test_runtime.py")
STANDARD = (
    "capture",
    "commands",
    "device",
    "files",
    "sinks",
    "streaming",
    "text",
    "trt",
    "test_bundle_entry.py",
    "test_results.py",
)
SUBJECTS = {"3.8": LIBRARIES, "3.10": LIBRARIES, "3.12": ("bundle", "runners"), "3.13": STANDARD}
ARM64 = ROOT / "tests" / "support" / "arm64.py"
LOGITS = """
import json, sys
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.images.read import read_image
from edgeclf_runtime.images.preprocess import as_batch, preprocess
from edgeclf_runtime.runners import open_runner

bundle = open_bundle(sys.argv[1])
batches = [as_batch([preprocess(read_image(path), bundle.preprocessing)]) for path in sys.argv[2:]]
logits = {}
for model in bundle.models:
    if "onnxruntime" in model.backends:
        with open_runner("onnxruntime", bundle.file(model.file), threads=1) as runner:
            logits[model.name] = [runner.infer(batch)[0].tolist() for batch in batches]
print(json.dumps(logits))
"""


@pytest.fixture(scope="session")
def interpreters():
    """By version an interpreter with a device's packages, or None."""

    return prepare()


@pytest.fixture(scope="session", params=PACKAGES)
def python(request, interpreters) -> str:
    """An interpreter with a device's packages."""
    found = interpreters[request.param]
    if found is None:
        pytest.skip(
            f"there is no Python {request.param}: python{request.param} does not start, "
            f"and no ~/.pyenv/versions/{request.param}.* is there"
        )
    return found


@pytest.fixture(scope="session")
def tested(interpreters, bundle, usual_bundle):
    """By interpreter, the run of the runtime's tests there; a few at once, since they mostly wait."""

    def run(*command, bundle=bundle):
        environment = bare_environment(
            EDGECLF_TEST_BUNDLE=str(bundle), PYTHONPATH=str(bundle), PYTHONDONTWRITEBYTECODE="1"
        )
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {}
        if CAN_EMULATE:
            # The longest first: it computes and never waits.
            runs[ARM64] = pool.submit(run, sys.executable, ARM64, bundle, home() / "arm64", TESTED_OPENCV)
        for version, python in interpreters.items():
            if python is not None:
                names = SUBJECTS.get(version, ("",)) if MARKS else ("",)
                some = [f"tests/runtime/{name}" for name in names]
                command = ("-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=-q", "-m", MARKS, *some)
                runs[python] = pool.submit(run, python, *command, bundle=usual_bundle if version == "3.6" else bundle)
        yield runs


def bare_environment(**more: str) -> dict[str, str]:
    """Return the environment without what Python reads, in a locale that Python 3.6 can name files in."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "LC_ALL": "C.UTF-8", **more}


@pytest.mark.slow
def test_no_child_process_compiles_numpy_again(python):
    code = "import importlib.util, os; print(os.path.isfile(importlib.util.find_spec('numpy').cached))"
    out = subprocess.run([python, "-c", code], env=bare_environment(), check=True, capture_output=True, text=True)
    assert out.stdout == "True\n"


@pytest.mark.slow
def test_the_runtimes_tests_pass(python, tested):
    assert_passed(tested[python].result())


@pytest.mark.slow
@pytest.mark.skipif(
    not CAN_EMULATE, reason="a Debian, root and the package qemu-user-static are needed to run arm64 here"
)
def test_the_runtimes_tests_pass_on_a_jetson_nanos_core(tested):
    assert_passed(tested[ARM64].result())


def assert_passed(run):
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-1000:]


@pytest.mark.slow
def test_every_model_gives_the_hosts_logits(python, bundle, pictures):
    here, there = (logits(interpreter, bundle, pictures) for interpreter in (sys.executable, python))
    assert set(here) == set(there)
    # int8-arm is for Arm: x86 kernels of ONNX Runtime 1.10 compute it otherwise, which the golden images would find.
    for model in [open_bundle(bundle).model(name) for name in ("fp32", "int8-cpu")]:
        largest = np.abs(np.subtract(here[model.name], there[model.name])).max()
        assert largest <= (1e-3 if model.precision == "fp32" else model.tolerance("onnxruntime").largest), model.name


def logits(interpreter, bundle, pictures):
    out = subprocess.run(
        [interpreter, "-c", LOGITS, bundle, *pictures],
        env=bare_environment(PYTHONPATH=str(bundle), PYTHONDONTWRITEBYTECODE="1"),
        check=True,
        capture_output=True,
    )
    return json.loads(out.stdout)


@pytest.fixture(scope="session")
def pictures(bundle, digits, tmp_path_factory):
    """The golden images, every digit, and pictures of the sizes that cameras give."""
    folder = tmp_path_factory.mktemp("pictures")
    for width, height in ((1280, 720), (640, 480), (333, 517), (32, 32)):
        cv2.imwrite(str(folder / f"{width} x {height}.png"), noise(width, height))
    return [*sorted(bundle.glob("golden/*.png")), *sorted(digits.rglob("*.png")), *sorted(folder.iterdir())]


@pytest.mark.slow
def test_a_user_starts_the_bundle_from_anywhere(python, bundle, tmp_path):
    images = [bundle / name for name in read_golden(open_bundle(bundle))["images"]]
    arguments = ["--json", "--model", "fp32", "--top-k", "1000"]
    here, there = (
        [json.loads(line) for line in classify(interpreter, bundle, tmp_path, arguments, images)]
        for interpreter in (sys.executable, python)
    )
    assert [line["label"] for line in there] == [line["label"] for line in here]
    assert [line["confidence"] for line in there] == pytest.approx([line["confidence"] for line in here], abs=1e-3)
    assert not [path for path in bundle.rglob("__pycache__") if path.is_dir()]


def classify(interpreter, bundle, folder, arguments, images):
    command = [interpreter, bundle, "classify", *arguments, *images]
    out = subprocess.run(command, cwd=folder, env=bare_environment(), check=True, capture_output=True, text=True)
    assert out.stderr == ""
    return out.stdout.splitlines()


@pytest.mark.slow
def test_pip_installs_the_runtime_alone_on_python_3_6(interpreters, bundle, tmp_path):
    python = interpreters["3.6"]
    if python is None:
        pytest.skip("there is no Python 3.6")
    source = shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "site", source]
    subprocess.run(install, check=True, env=bare_environment())
    code = (
        "import sys, edgeclf_runtime; assert edgeclf_runtime.__file__.startswith(sys.argv[2])\n"
        "from edgeclf_runtime.classify.classifier import Classifier\n"
        "with Classifier.open(sys.argv[1]) as classifier: print(classifier.model)\n"
    )
    command = [python, "-c", code, bundle, tmp_path / "site"]
    environment = bare_environment(PYTHONPATH=str(tmp_path / "site"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "int8-cpu\n"), done.stderr
    assert (tmp_path / "site" / "edgeclf_runtime" / "sinks" / "live" / "live.html").is_file()
