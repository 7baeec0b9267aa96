"""Anything that a backend's library raises becomes a BackendError with its words, on every backend of the table."""

import importlib
import logging
import sys

import numpy as np
import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.selection import candidates
from edgeclf_runtime.classify.tuning import measure
from edgeclf_runtime.classify.tuning.candidate import variants
from edgeclf_runtime.classify.tuning.memory import CAMERA
from edgeclf_runtime.commands.selftest import selftest
from edgeclf_runtime.device.stop_signals import Terminated
from edgeclf_runtime.errors import BackendError, BundleError
from edgeclf_runtime.fake import FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners import RUNNERS, backend_version, open_runner
from edgeclf_runtime.runners.base import Runner, close_quietly
from tests.support.faults import ERRORS, Strange, words
from tests.support.pictures import noise

# A new backend must be named here, so that it is tested too.
LIBRARIES = {
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "onnxruntime_ep_nv_tensorrt_rtx",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "opencv": "cv2",
}
every_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
every_backend = pytest.mark.parametrize("backend", sorted(RUNNERS))


class Broken:
    """Finds a library whose import raises."""

    def __init__(self, name, error):
        self.name, self.error = name, error

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            raise self.error


@pytest.fixture
def broken(monkeypatch):
    """Let the import of a backend's library raise."""

    def make(backend, error):
        monkeypatch.delitem(sys.modules, LIBRARIES[backend], raising=False)
        monkeypatch.setattr(sys, "meta_path", [Broken(LIBRARIES[backend], error), *sys.meta_path])

    return make


def runner_of(backend):
    """A backend's class, and a runner of it whose library is not loaded."""
    module, name = RUNNERS[backend]
    kind = getattr(importlib.import_module(module, "edgeclf_runtime.runners"), name)
    return kind, kind.__new__(kind)


@every_backend
@every_error
def test_any_error_of_a_librarys_import_is_a_backend_error(bundle, broken, backend, error):
    broken(backend, error)
    with pytest.raises(BackendError) as caught:
        open_runner(backend, bundle / "model.fp32.onnx")
    assert words(error) in str(caught.value)
    assert backend_version(backend) is None


@every_backend
@every_error
def test_any_error_of_a_library_is_a_backend_error(monkeypatch, backend, error):
    def fail(*_, **__):
        raise error

    kind, runner = runner_of(backend)
    for method in ("_load", "_infer", "_free"):
        monkeypatch.setattr(kind, method, fail)
    for call in (lambda: kind("m.onnx"), lambda: runner.infer(np.zeros((1, 2, 2, 3))), runner.close):
        with pytest.raises(BackendError) as caught:
            call()
        assert words(error) in str(caught.value)


@every_backend
def test_no_backend_goes_past_what_catches_these(backend):
    for kind in type(runner_of(backend)[1]).__mro__[:-2]:
        assert kind is Runner or not {"__init__", "infer", "close"} & set(vars(kind)), kind


@pytest.mark.slow
@every_backend
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated(), BundleError("changed")])
def test_errors_that_are_not_a_librarys_are_not_converted(monkeypatch, backend, error):
    def fail(*_, **__):
        raise error

    kind, runner = runner_of(backend)
    for method in ("_load", "_infer", "_free"):
        monkeypatch.setattr(kind, method, fail)
    for call in (lambda: kind("m.onnx"), lambda: runner.infer(None), runner.close):
        with pytest.raises(type(error)):
            call()


def test_a_librarys_words_are_one_line_of_bearable_length(monkeypatch):
    kind, runner = runner_of("onnxruntime")
    monkeypatch.setattr(kind, "_infer", lambda *_: int("many\nwords " * 1000))
    with pytest.raises(BackendError) as caught:
        runner.infer(np.zeros((1, 2, 2, 3)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_closed_runner_says_so(bundle):
    runner = open_runner("onnxruntime", bundle / "model.fp32.onnx")
    runner.close()
    with pytest.raises(BackendError, match="onnxruntime is closed"):
        runner.infer(np.zeros((1, 64, 64, 3), np.float32))


def test_a_close_that_fails_is_logged_where_nothing_depends_on_it(caplog):
    class Stuck(FakeRunner):
        def close(self):
            raise Strange("the driver is gone")

    close_quietly(Stuck([1]))
    close_quietly(None)
    with Stuck([1]):
        pass
    with Classifier(Stuck([1]), "a", Preprocessing(8, 8)) as classifier:
        classifier.classify(noise(8, 8))
    assert caplog.text.count("Strange: the driver is gone") == 3


@every_error
def test_the_next_backend_answers_where_a_library_cannot_be_imported(two_backends, broken, caplog, error):
    broken("onnxruntime", error)
    with caplog.at_level(logging.WARNING), Classifier.open(two_backends) as classifier:
        assert classifier.classify(noise(8, 8)).backend == "opencv"
    assert words(error) in caplog.text
    assert classifier.fallback is None


@pytest.mark.slow
@every_error
def test_selftest_and_tuning_pass_a_broken_library_over(bundle, two_backends, broken, error):
    broken("onnxruntime", error)
    assert words(error) in selftest(bundle, "fp32", "onnxruntime").failures["fp32 on onnxruntime"]
    sent = []
    measure.measure(two_backends, variants(candidates(two_backends, "fp32"), 1), CAMERA, 60.0, sent.append)
    (failure,) = [message for message in sent if "failed" in message]
    assert failure["name"] == "fp32 on onnxruntime, 1 thread"
    assert words(error) in failure["failed"]
    assert sent[-1] == {"best": "fp32 on opencv, 1 thread"}


def test_an_optional_library_that_is_there_and_broken_is_worth_a_word(bundle, broken, caplog):
    broken("openvino", SystemExit("the license has expired"))
    opened = open_bundle(bundle)
    fp32 = opened.model("fp32")._replace(backends=("openvino", "onnxruntime"))
    with Classifier.open(opened._replace(models=(fp32,)), "fp32") as classifier:
        assert classifier.backend == "onnxruntime"
    assert "passed over fp32 on openvino: OpenVINO is installed for " in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [[1.0, 2.0]],
        "logits",
        np.zeros((1, 3), np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros(2, np.float32),
        np.zeros((1, 2), object),
        np.full((1, 2), np.nan, np.float32),
    ],
    ids=repr,
)
def test_an_output_that_is_not_logits_of_these_labels_is_a_backend_error(answer):
    class Wrong(FakeRunner):
        def infer(self, batch):
            return answer

    with pytest.raises(BackendError, match=r"^model on fake (returned|produced) "):
        Classifier(Wrong([1, 2]), "ab", Preprocessing(8, 8), "model").classify(noise(8, 8))
