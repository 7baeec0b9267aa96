import shutil
import signal
import threading

import numpy as np
import pytest

from edgeclf_runtime.__main__ import main
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify import selection
from edgeclf_runtime.runners import open_runner
from tests.support.faults import Opener
from tests.support.pictures import CMYK_JPEG, encode, noise, quarters, with_orientation


@pytest.fixture
def copied(bundle, tmp_path):
    """A copy of the bundle that a test may damage; removed immediately, since pytest keeps its folders for three runs."""
    path = tmp_path / "copy.edge"
    shutil.copytree(str(bundle), str(path))
    yield path
    shutil.rmtree(str(path), ignore_errors=True)


@pytest.fixture(scope="session")
def two_backends(bundle):
    """The bundle for two backends, the second of which takes only fp32, whatever its manifest says."""
    opened = open_bundle(bundle)
    backends = {"fp32": ("onnxruntime", "opencv"), "int8-cpu": ("onnxruntime",)}
    models = tuple(model._replace(backends=backends.get(model.name, model.backends)) for model in opened.models)
    return opened._replace(models=models)


@pytest.fixture
def photos(tmp_path):
    """A folder with every kind of photograph that a user would expect to work."""
    folder = tmp_path / "Fotos \u00fc 1"
    folder.mkdir()
    (folder / "plain.png").write_bytes(encode(".png", noise(64, 48)))
    (folder / "gray.JPG").write_bytes(encode(".jpg", noise(64, 48)[:, :, 0]))
    (folder / "cmyk.jpg").write_bytes(CMYK_JPEG)
    (folder / "turned.jpeg").write_bytes(with_orientation(encode(".jpg", quarters()), 6))
    (folder / "deep.png").write_bytes(encode(".png", noise(64, 48).astype(np.uint16) * 257))
    (folder / "clear.png").write_bytes(encode(".png", np.concatenate([noise(64, 48)] * 2, 2)[:, :, :4]))
    (folder / "wrong suffix.bmp").write_bytes(encode(".jpg", noise(64, 48)))
    return folder


@pytest.fixture
def cli(bundle, capfd):
    """Run a command in this process; returns its exit code, stdout and stderr."""

    def run(*arguments, **options):
        old = signal.getsignal(signal.SIGTERM)
        try:
            code = main([str(argument) for argument in arguments], str(options.get("bundle", bundle)))
        except SystemExit as stop:
            code = stop.code
        finally:
            signal.signal(signal.SIGTERM, old)
        return (code, *capfd.readouterr())

    return run


@pytest.fixture
def opener(monkeypatch):
    """Opens every backend of a Selection, and breaks it on request."""
    opener = Opener(open_runner)
    monkeypatch.setattr(selection, "open_runner", opener)
    return opener


@pytest.fixture
def new_threads():
    """A function that returns the set of threads that began during the test and still run; others may end meanwhile."""
    before = set(threading.enumerate())
    return lambda: set(threading.enumerate()) - before
