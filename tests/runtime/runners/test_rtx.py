"""The plug-in TensorRT-RTX of ONNX Runtime: the errors without it, and a real session on a plug-in's devices.

Its refusal without a driver is seen in tests/runtime/trt/nvidia/test_rtx.py, on the real package.
"""

import sys
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.golden import golden_images, read_golden
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.runners import backend_version, open_runner
from tests.support.faults import Watched, in_threads

PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
TAKES_PLUG_INS = hasattr(onnxruntime, "register_execution_provider_library")


@pytest.fixture
def plug_in(monkeypatch):
    """A plug-in with a given name; with the name of ONNX Runtime's CPU provider it always finds a device."""

    def make(name):
        module = SimpleNamespace(get_ep_name=lambda: name, get_library_path=lambda: "/nowhere/libplugin.so")
        monkeypatch.setitem(sys.modules, PACKAGE, module)

    return make


def test_the_error_without_it_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(
        BackendError, match=r"^ONNX Runtime's plug-in TensorRT-RTX is not installed for .* -m pip install "
    ):
        open_runner("tensorrt-rtx", bundle / "model.fp32.onnx")
    assert backend_version("tensorrt-rtx") is None


def test_an_onnxruntime_without_plug_ins_is_a_clear_error(bundle, plug_in, monkeypatch):
    plug_in("AnyExecutionProvider")
    monkeypatch.delattr(onnxruntime, "register_execution_provider_library", raising=False)
    with pytest.raises(
        BackendError, match=r"does not support plug-ins; TensorRT-RTX needs 1.24 or later: .*--upgrade onnxruntime"
    ):
        open_runner("tensorrt-rtx", bundle / "model.fp32.onnx")


@pytest.mark.skipif(not TAKES_PLUG_INS, reason="this ONNX Runtime takes no plug-ins")
def test_a_library_that_cannot_be_loaded_is_an_error_with_the_loaders_words(bundle, plug_in):
    plug_in("AnyExecutionProvider")
    with pytest.raises(
        BackendError, match=r"^TensorRT-RTX cannot be loaded \(.*libplugin.so.*\); it needs NVIDIA's driver"
    ):
        open_runner("tensorrt-rtx", bundle / "model.fp32.onnx")


@pytest.mark.skipif(not TAKES_PLUG_INS, reason="this ONNX Runtime takes no plug-ins")
def test_a_plug_in_without_a_gpu_is_a_clear_error(bundle, plug_in, monkeypatch):
    plug_in("AnyExecutionProvider")
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda name, path: None)
    with pytest.raises(BackendError, match=r"finds no supported GPU; an Ampere .* nvidia-smi"):
        open_runner("tensorrt-rtx", bundle / "model.fp32.onnx")


@pytest.mark.skipif(not TAKES_PLUG_INS, reason="this ONNX Runtime takes no plug-ins")
def test_a_model_runs_on_the_devices_of_a_plug_in(bundle, plug_in):
    plug_in("CPUExecutionProvider")
    batch = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    with open_runner("tensorrt-rtx", bundle / "model.fp32.onnx") as runner:
        found = runner.infer(batch)
        assert (runner.backend, runner.device) == ("tensorrt-rtx", "cuda")
    with open_runner("onnxruntime", bundle / "model.fp32.onnx") as runner:
        np.testing.assert_allclose(found, runner.infer(batch), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not TAKES_PLUG_INS, reason="this ONNX Runtime takes no plug-ins")
def test_threads_share_a_classifier_on_a_plug_in_which_infers_one_by_one(bundle, plug_in):
    plug_in("CPUExecutionProvider")
    opened = open_bundle(bundle)
    images = golden_images(opened)
    labels = [opened.labels[number] for number in np.argmax(read_golden(opened)["logits"]["fp32"], 1)]
    runner = Watched(open_runner("tensorrt-rtx", bundle / "model.fp32.onnx", 1))
    with Classifier(runner, opened.labels, opened.preprocessing) as shared:
        found = in_threads(8, lambda _: [shared.classify(image).label for image in images])
    assert (found, runner.wrong) == ([labels] * 8, [])
