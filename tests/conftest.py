"""One small run on real data, made once: scikit-learn's handwritten digits as PNG files."""

import atexit
import gc
import itertools
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

import edgeclf_runtime  # noqa: F401 - before any test imports onnxruntime, which would report to its maker

# pip would ask for its own newest version.
os.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
# Threads wait for each other after every layer; with images as small as these, on a busy machine, that is nearly all.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The first start of each bundle would measure for seconds; tests of that turn it on.
os.environ.setdefault("EDGECLF_NO_TUNE", "1")

# As in a command: Python would look for garbage among all objects of torch many times, which took a third of the collection.
gc.set_threshold(10_000, 10, 10)
atexit.register(getattr(gc, "freeze", gc.disable))  # Python 3.6 has none

# Whoever starts pytest in the background or by nohup lets it ignore these, and so every program that a test starts.
for ignored in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)

DIGITS = ("3", "5", "8")
IMAGES_PER_DIGIT = 60
IMAGE_SIZE = 64
# A network of 0.4 million parameters: files of a megabyte, and seconds in place of half a minute to quantize them.
SMALL = {"backbone": "test_efficientnet", "weights": "none", "finetune": "full"}
STATES = itertools.count()
LONGEST = (
    "product/test_interpreters.py",
    "deployment/test_demonstration.py",
    "product/test_docs.py",
    "product/test_security.py",
    "product/test_network.py",
    "runtime/test_network.py",
    "training/test_train.py",
)


@pytest.hookimpl(optionalhook=True)  # the other interpreters have no pytest-xdist
def pytest_xdist_auto_num_workers():
    """One more process than processors, since many tests wait; each takes up to 1 GB."""
    return min(os.cpu_count() or 1, 7) + 1


def pytest_collection_modifyitems(items):
    """Put the files that take minutes first, so that they do not begin when the other processes have ended."""
    tests = Path(__file__).parent
    turn = {tests / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: turn.get(item.path, len(turn)))


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Give a path that all processes of pytest-xdist share, to be made by whichever asks first.

    with shared("NAME") as path:  # the others wait here
        if not path.exists(): ...

    EDGECLF_TEST_SHARED names a folder for several calls of pytest on the same code.
    """
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    own = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder = Path(os.environ.get("EDGECLF_TEST_SHARED") or own)
    folder.mkdir(exist_ok=True)

    @contextmanager
    def locked(name):
        with FileLock(folder / f"{name}.lock"):
            yield folder / name

    return locked


@pytest.fixture(scope="session")
def digits(shared) -> Path:
    """A folder of class folders: 3 digits, 60 images each, 64 x 64."""
    with shared("digits") as root:
        if not root.exists():
            write_digits(root)
    return root


def write_digits(root):
    """Write the images of ``digits``."""
    import cv2
    import numpy as np
    from sklearn.datasets import load_digits

    data = load_digits()
    for digit in DIGITS:
        folder = root / digit
        folder.mkdir(parents=True)
        for number, pixels in enumerate(data.images[data.target == int(digit)][:IMAGES_PER_DIGIT]):
            image = cv2.resize((pixels * 15.9).astype(np.uint8), (64, 64), interpolation=cv2.INTER_LINEAR)
            cv2.imwrite(str(folder / f"{number:03d}.png"), image)


@pytest.fixture(scope="session")
def run(digits, shared, tmp_path_factory) -> Path:
    """A run on the digits with a small network, exported and quantized; read only.

    Each process has its own copy: a command keeps logits in a run, and another process would see them half written.
    """
    with shared("run") as path:
        make_run(path, digits, **SMALL)
        return shutil.copytree(path, tmp_path_factory.mktemp("shared") / "run")


@pytest.fixture(scope="session")
def usual_run(digits, shared, tmp_path_factory) -> Path:
    """The same with the usual network and a frozen backbone, for tests of what is in its files; read only."""
    with shared("usual-run") as path:
        make_run(path, digits)
        return shutil.copytree(path, tmp_path_factory.mktemp("shared") / "usual-run")


def make_run(path, digits, **training):
    """Train, export and quantize, unless it was done before."""
    import edgeclf

    if not (path / "quantization.json").exists():
        shutil.rmtree(path, ignore_errors=True)
        # The same number of images of each digit everywhere, so that figures can be expected.
        exact = edgeclf.load_dataset(digits, edgeclf.SplitOptions(method="exact"))
        edgeclf.train(exact, path, edgeclf.TrainOptions(image_size=IMAGE_SIZE, epochs=15, **training))
        edgeclf.export(path)
        # Small images are hard on INT8; the gate has tests of its own.
        edgeclf.quantize(path, edgeclf.QuantizeOptions(size=60, max_drop=0.2, form="standard"))


@pytest.fixture
def own_run(run, tmp_path):
    """A copy of the run as it was before quantize."""
    made = ("model.int8*", "model.fp16.onnx", "calibration.cache", "quantization.*")
    return Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns(*made)))


@pytest.fixture(scope="session")
def bundle(request) -> Path:
    """The run's bundle; read only, copy it before you damage it.

    Where EDGECLF_TEST_BUNDLE names one it is used, so that tests/runtime needs no host package.
    """
    given = os.environ.get("EDGECLF_TEST_BUNDLE")
    if given:
        return Path(given)
    import edgeclf

    run, shared = map(request.getfixturevalue, ("run", "shared"))
    with shared("digits.edge") as path:
        if not path.exists():
            # Few golden images: an emulated processor is slow on each.
            edgeclf.bundle(run, path, edgeclf.BundleOptions(golden=4))
    return path


@pytest.fixture(scope="session")
def usual_bundle(usual_run, shared) -> Path:
    """The usual network's bundle, for what the small network is too small for, or OpenCV 4.1.1 too old; read only."""
    import edgeclf

    with shared("usual-digits.edge") as path:
        if not path.exists():
            edgeclf.bundle(usual_run, path, edgeclf.BundleOptions(golden=4))
    return path


@pytest.fixture(autouse=True, scope="session")
def verified_once():
    """Verify a bundle's file once in this process as long as it stays as it is; see verification.remembering()."""
    from tests.support.verification import remembering

    with remembering():
        yield


@pytest.fixture(autouse=True, scope="session")
def compared_once():
    """Compare two images once in this process; see likeness.remembering()."""
    if os.environ.get("EDGECLF_TEST_BUNDLE"):  # without the host package
        yield
        return
    from tests.support.likeness import remembering

    with remembering():
        yield


@pytest.fixture(autouse=True)
def own_state(monkeypatch, tmp_path_factory):
    """Keep what one test's camera showed, and what no broker has received yet, from the next test's run."""
    states = tmp_path_factory.getbasetemp() / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(states / str(next(STATES))))


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch):
    """Forget after each test the secrets that it made this process hide, such as the word "wrong"."""
    from edgeclf_runtime.device import process_secrets
    from edgeclf_runtime.text import redaction

    monkeypatch.setattr(process_secrets, "_taken", dict(process_secrets._taken))
    monkeypatch.setattr(redaction, "_known", dict(redaction._known))
    monkeypatch.setattr(redaction, "_pattern", redaction._pattern)


@pytest.fixture
def command(capfd):
    """Run an ``edgeclf`` command in this process: command("check", DATA) gives its exit code, stdout and stderr."""
    from edgeclf import cli
    from edgeclf.display import progress

    def run(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.app([str(argument) for argument in arguments])
        return (stopped.value.code, *capfd.readouterr())

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)
    progress.show_progress(False)


@pytest.fixture
def tensorrt(monkeypatch, tmp_path):
    """TensorRT 11.4 for the building processes; this one knows only its version, since no other can follow in it."""
    from types import SimpleNamespace

    from edgeclf_runtime.trt import engine
    from tests.support.tensorrt_rig import BUILDS, rig

    monkeypatch.setenv("PYTHONPATH", rig(BUILDS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(engine, "load_tensorrt", lambda: SimpleNamespace(__version__=BUILDS))


@pytest.fixture
def small(tmp_path):
    """Write a small ONNX file: small(nodes, *initializers) gives its path."""
    import onnx
    from onnx import TensorProto, helper

    def write(nodes, *initializers, name="model.fp32.onnx"):
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "graph", [image], [logits], list(initializers))
        path = tmp_path / name
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), str(path))
        return str(path)

    return write


@pytest.fixture
def relu(small):
    """A model of one layer, which is built in a tenth of a second."""
    from onnx import helper

    return small([helper.make_node("Relu", ["image"], ["logits"])])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Browser."""
    from tests.support.browsers import chromium

    for program in ("chromium", "chromedriver"):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing: apt-get install chromium chromium-driver")
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def small_disk(tmp_path):
    """Make a file system of a size, "64k", and return its folder."""
    folder = tmp_path / "disk"

    def mount(size):
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=" + size, "tmpfs", str(folder)]
        if os.getuid() != 0 or subprocess.call(command, stderr=subprocess.DEVNULL) != 0:
            pytest.skip("mounting a tmpfs needs root")
        return folder

    yield mount
    if os.path.ismount(str(folder)):
        subprocess.check_call(["umount", "-l", str(folder)])
