import logging
import sys

import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify import selection
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.selection import Selection, candidates, open_proven
from edgeclf_runtime.classify.tuning import parent
from edgeclf_runtime.classify.tuning.memory import Figures
from edgeclf_runtime.errors import BackendError, BundleError, OptionError
from edgeclf_runtime.fake import FakeRunner
from edgeclf_runtime.runners import backend_version
from tests.support.cuda_builds import CudaBuild
from tests.support.sealing import flip_byte, replace_file, reseal, spoil_int8


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def opened(two_backends):
    return two_backends


def names(pairs):
    return [(model.name, backend) for model, backend in pairs]


def test_the_pairs_come_in_the_manifests_order_for_the_machine(opened):
    both = [("fp32", "onnxruntime"), ("fp32", "opencv")]
    for order in (["fp32", "int8-cpu"], ["int8-cpu", "fp32"]):
        ordered = opened._replace(order={"default": order})
        int8 = [("int8-cpu", "onnxruntime")]
        assert names(candidates(ordered)) == (both + int8 if order[0] == "fp32" else int8 + both)
    assert names(candidates(opened, "fp32")) == both
    assert names(candidates(opened, backend="opencv")) == [("fp32", "opencv")]


def test_the_first_model_for_the_machine_is_used(bundle):
    opened = open_bundle(bundle)
    with Classifier.open(opened, threads=1) as classifier:
        assert classifier.model == candidates(opened)[0][0].name


@pytest.mark.slow
def test_a_model_that_fails_its_golden_images_is_passed_over_with_a_warning(copied, caplog):
    reseal(copied, spoil_int8)
    with caplog.at_level(logging.WARNING), Classifier.open(copied) as classifier:
        assert classifier.model == "fp32"
    assert "passed over int8-cpu on onnxruntime: FAIL: " in caplog.text


def test_without_onnxruntime_the_float_model_runs_on_opencv(opened, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with Classifier.open(opened) as classifier:
        assert (classifier.model, classifier.backend) == ("fp32", "opencv")
    assert caplog.text.count("onnxruntime is not installed for") == 1
    assert "fp32 on onnxruntime" in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(backend_version("openvino") is None, reason="openvino is not installed")
def test_without_onnxruntime_openvino_runs_int8(opened, monkeypatch):
    int8 = opened.model("int8-cpu")._replace(backends=("onnxruntime", "openvino"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with Classifier.open(opened._replace(models=(int8,), order={"default": ["int8-cpu"]})) as classifier:
        assert (classifier.model, classifier.backend) == ("int8-cpu", "openvino")


def test_a_missing_openvino_is_not_logged(opened, monkeypatch, caplog):
    fp32 = opened.model("fp32")._replace(backends=("openvino", "onnxruntime"))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with Classifier.open(opened._replace(models=(fp32,)), "fp32") as classifier:
        assert classifier.backend == "onnxruntime"
    assert caplog.text == ""


def test_if_no_model_runs_each_reason_is_reported_once(copied, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError) as caught:
        Classifier.open(copied, backend="onnxruntime")
    message = str(caught.value)
    assert message.startswith("no model of copy.edge runs on this machine:\n  ")
    assert message.count("onnxruntime is not installed for") == 1
    assert "-m pip install onnxruntime" in message
    assert all(model.name in message for model, _ in candidates(open_bundle(copied), backend="onnxruntime"))
    assert caplog.text == ""


def test_a_model_that_a_backend_cannot_load_is_reported_with_the_backends_words(copied):
    replace_file(copied, "model.fp32.onnx", b"no model")
    with pytest.raises(BackendError, match=r"onnxruntime .* cannot load .*model\.fp32\.onnx"):
        Classifier.open(copied, "fp32", "onnxruntime")


def test_a_runner_that_fails_its_golden_images_is_closed(opened, monkeypatch):
    runners = []

    def open_fake(backend, path, threads, at_once):
        runners.append(FakeRunner([1, 2, 3], features=[1] * opened.model("fp32").features))
        return runners[-1]

    monkeypatch.setattr("edgeclf_runtime.classify.selection.open_runner", open_fake)
    with pytest.raises(BackendError, match="FAIL: fp32 on fake"):
        open_proven(opened, opened.model("fp32"), "onnxruntime")
    monkeypatch.setattr("edgeclf_runtime.classify.selection.check_golden", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_proven(opened, opened.model("fp32"), "onnxruntime")
    assert [runner.closed for runner in runners] == [True, True]


def test_each_pair_is_opened_once_and_then_none_is_left(opened):
    selection = Selection(opened, candidates(opened, "fp32"))
    for backend in ("onnxruntime", "opencv"):
        model, runner = selection.open_next()
        with runner:
            assert (model.name, runner.backend) == ("fp32", backend)
    for _ in range(2):
        with pytest.raises(BackendError, match=r"^no other model of .*\.edge runs on this machine$"):
            selection.open_next()


def test_errors_for_unknown_names_list_the_known_ones(opened):
    with pytest.raises(BundleError, match=r"holds no model 'fp8'; it holds .*fp32"):
        Classifier.open(opened, "fp8")
    with pytest.raises(
        OptionError, match="no model here runs on the backend 'abacus'; use --backend onnxruntime or opencv"
    ):
        Classifier.open(opened, backend="abacus")
    with pytest.raises(BackendError, match="int8-cpu does not run on the backend 'opencv'; use --backend onnxruntime"):
        Classifier.open(opened, "int8-cpu", "opencv")


def test_a_model_that_was_changed_after_the_bundle_was_opened_is_passed_over(copied):
    opened = open_bundle(copied)
    pairs = [(opened.model("fp32"), "onnxruntime"), (opened.model("int8-cpu"), "onnxruntime")]
    flip_byte(copied / "model.fp32.onnx", 5000)
    model, runner = Selection(opened, pairs).open_next()
    runner.close()
    assert model.name == "int8-cpu"


@pytest.fixture
def int8_first(opened):
    return opened._replace(order={"default": ["int8-cpu", "fp32"]})


def test_with_cuda_in_onnxruntime_float_models_come_before_int8_which_stays_on_the_cpu(int8_first, monkeypatch):
    CudaBuild(monkeypatch)
    expected = [("fp32", "onnxruntime"), ("int8-cpu", "onnxruntime"), ("fp32", "opencv")]
    assert names(candidates(int8_first)) == expected
    with Classifier.open(int8_first, threads=1) as classifier:
        assert (classifier.model, classifier.runner.device) == ("fp32", "cuda")
    with Classifier.open(int8_first, "int8-cpu", threads=1) as classifier:
        assert classifier.runner.device == "cpu"


@pytest.mark.parametrize("failure", ["raises", "infers", "falls back"])
def test_if_cuda_does_not_work_the_manifests_order_is_used(int8_first, monkeypatch, failure):
    CudaBuild(monkeypatch, failure)
    with Classifier.open(int8_first, threads=1) as classifier:
        assert (classifier.model, classifier.backend) == ("int8-cpu", "onnxruntime")
    with Classifier.open(int8_first, "fp32", threads=1) as classifier:
        assert (classifier.model, classifier.runner.device) == ("fp32", "cpu")


@pytest.mark.slow
def test_a_model_that_was_moved_back_on_the_cpu_is_used_when_int8_fails(copied, monkeypatch, caplog):
    reseal(copied, spoil_int8)
    CudaBuild(monkeypatch, "raises")
    opened = open_bundle(copied)._replace(order={"default": ["int8-cpu", "fp32"]})
    with Classifier.open(opened, threads=1) as classifier:
        assert classifier.model == "fp32"
    assert "passed over int8-cpu on onnxruntime: FAIL: " in caplog.text


def test_a_measured_order_is_used_even_if_cuda_does_not_work(int8_first, monkeypatch):
    CudaBuild(monkeypatch, "raises")
    figures = {"fp32 on onnxruntime": 2.0, "int8-cpu on onnxruntime": 4.0, "fp32 on opencv": 9.0}
    figures = {f"{name}, 1 thread": ms for name, ms in figures.items()}
    monkeypatch.setattr(parent, "measure", lambda *_: Figures(figures, {}))
    with Classifier.open(int8_first, threads=1, tune=True) as classifier:
        assert (classifier.model, classifier.runner.device) == ("fp32", "cpu")


@pytest.fixture
def for_arm(opened):
    """The bundle with the models for an Arm board."""
    backends = {"fp32": ("tensorrt", "onnxruntime", "opencv"), "fp16": ("tensorrt",), "int8-arm": ("onnxruntime",)}
    models = tuple(m._replace(backends=backends[m.name]) for m in opened.models if m.name in backends)
    return opened._replace(models=models, order={"aarch64": ["fp16", "fp32", "int8-arm"], "default": ["fp32"]})


@pytest.mark.parametrize("dot_product", [False, True])
@pytest.mark.parametrize("jetson", [False, True])
def test_an_arm_processor_with_the_dot_product_tries_int8_first_but_after_tensorrt(
    for_arm, monkeypatch, dot_product, jetson
):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(selection, "is_jetson", lambda: jetson)
    monkeypatch.setattr(selection, "has_dot_product", lambda: dot_product)
    rest = [("fp32", "onnxruntime"), ("fp32", "opencv")]
    int8 = [("int8-arm", "onnxruntime")]
    tensorrt = [("fp16", "tensorrt"), ("fp32", "tensorrt")] if jetson else []
    assert names(candidates(for_arm)) == tensorrt + (int8 + rest if dot_product else rest + int8)
    ort = [("fp32", "onnxruntime"), ("int8-arm", "onnxruntime")]
    assert names(candidates(for_arm, backend="onnxruntime")) == (ort[::-1] if dot_product else ort)


def test_cuda_comes_before_the_dot_product(for_arm, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(selection, "has_dot_product", lambda: True)
    CudaBuild(monkeypatch)
    expected = [("fp32", "onnxruntime"), ("int8-arm", "onnxruntime"), ("fp32", "opencv")]
    assert names(candidates(for_arm)) == expected
