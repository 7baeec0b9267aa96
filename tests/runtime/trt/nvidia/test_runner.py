"""The TensorRT runner: its calls in both forms on a stand-in, its errors with the real libraries.

Inference on a GPU is proved where there is one, by test_gpu.py; here it is not.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners import backend_version, open_runner
from edgeclf_runtime.trt import cuda, versions
from edgeclf_runtime.trt import runner as trt
from edgeclf_runtime.trt.engine_cache import Engine
from edgeclf_runtime.trt.versions import load_tensorrt
from tests.support.engine_requests import SPEC
from tests.support.faults import Watched, in_threads
from tests.support.gpus import Net, make_cudart
from tests.support.tensorrt_rig import BUILDS, rig

REFUSED = """
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.runners import open_runner
try:
    open_runner("tensorrt", "model.fp32.onnx")
except BackendError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return make_cudart(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(params=["8.0.1.6", "8.2.1.8", "8.6.1", "11.4.0.106"])
def net(request, library, monkeypatch):
    """A TensorRT that computes on this processor, in the shape of each version's calls."""
    net = Net(request.param, ctypes.CDLL(library))
    net.spec = SPEC
    monkeypatch.setitem(sys.modules, "tensorrt", net.module)
    monkeypatch.setattr(cuda, "_library_paths", lambda: [library])
    monkeypatch.setattr(trt, "ensure_engine", lambda path, device: Engine(b"plan", {"key": net.spec.key}, "no-folder"))
    yield net
    assert ctypes.CDLL(library).live_objects() == 0


def batch(size):
    return np.random.default_rng(size).uniform(0, 255, (size, 4, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 3, 8, 9, 20])
def test_logits_of_any_number_of_images_come_in_their_order(net, size):
    with open_runner("tensorrt", "model.fp32.onnx") as runner:
        logits = runner.infer(batch(size))
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, batch(size).mean((1, 2)), rtol=1e-5)
        assert runner.transfer_ms == 0.5 * -(-size // 8)
        assert (runner.backend, runner.device) == ("tensorrt", "cuda")


@pytest.mark.parametrize("names", [("features", "logits", "image"), ("image", "logits", "features")])
def test_features_come_beside_the_logits_whatever_the_order_of_the_engines_tensors(net, names):
    shapes = {**net.shapes, "features": (-1, 3)}
    net.shapes = {name: shapes[name] for name in names}
    with open_runner("tensorrt", "model.fp32.onnx") as runner:
        for size in (1, 1, 1, 20):  # started by a call, recorded, replayed, and in parts
            logits, features = runner.infer_outputs(batch(size))
            np.testing.assert_allclose(logits, batch(size).mean((1, 2)), rtol=1e-5)
            np.testing.assert_allclose(features, batch(size).max((1, 2)), rtol=1e-5)
            assert features.dtype == np.float32
        assert np.array_equal(runner.infer(batch(20)), logits)


def test_an_engine_of_logits_only_has_no_features(net):
    with open_runner("tensorrt", "model.fp32.onnx") as runner:
        assert runner.infer_outputs(batch(1)).features is None


def test_an_engine_with_another_second_output_than_features_is_refused(net):
    net.shapes = {"features": (-1, 3), "image": (-1, 4, 5, 3)}
    with pytest.raises(
        BackendError, match=r"features \(float\); one input, logits and perhaps features, each float32,"
    ):
        open_runner("tensorrt", "model.fp32.onnx")


def test_logits_are_not_changed_by_the_next_inference(net):
    with open_runner("tensorrt", "model.fp32.onnx") as runner:
        first = runner.infer(batch(1))
        before = first.copy()
        runner.infer(batch(2))
        assert (first == before).all()


def test_context_engine_and_runtime_go_in_that_order(net):
    runner = open_runner("tensorrt", "model.fp32.onnx")
    runner.close()
    runner.close()
    assert [entry[0] for entry in net.happened] == ["+", "+", "+", "-", "-", "-"]
    assert [entry[1:] for entry in net.happened[3:]] == [entry[1:] for entry in net.happened[2::-1]]


def test_an_engine_that_cannot_be_loaded_is_an_error_with_tensorrts_words(net):
    net.loads = False
    # 8.0 prints them.
    words = "its output is above" if net.module.__version__.startswith("8.0") else "magicTag does not match"
    with pytest.raises(BackendError, match=f"TensorRT cannot load the engine; build it again: .*{words}"):
        open_runner("tensorrt", "model.fp32.onnx")


def test_an_inference_that_fails_is_an_error(net):
    with open_runner("tensorrt", "model.fp32.onnx") as runner:
        net.fails = True
        with pytest.raises(BackendError, match=r"TensorRT failed on a batch of shape \[1, 4, 5, 3\]"):
            runner.infer(batch(1))


def test_a_batch_of_another_shape_is_refused(net):
    runner = open_runner("tensorrt", "model.fp32.onnx")
    with runner, pytest.raises(BackendError, match=r"\[1, 4, 4, 3\]; the model expects \[-1, 4, 5, 3\]"):
        runner.infer(batch(1)[:, :, :4])


def test_from_the_second_batch_of_a_shape_on_a_graph_is_launched(net):
    with open_runner("tensorrt", "model.fp32.onnx") as runner:
        for size in (1, 1, 1, 1, 3, 3, 3, 1, 1):
            image = batch(size) + runner.transfer_ms
            np.testing.assert_allclose(runner.infer(image), image.mean((1, 2)), rtol=1e-5)
        # Once to warm up and once to record, for each run of one shape.
        assert net.enqueued == 6


@pytest.mark.parametrize(
    "failure", ["cudaStreamBeginCapture 900", "cudaStreamEndCapture 901", "cudaGraphInstantiate 2"]
)
def test_without_a_graph_every_inference_is_launched_and_the_log_says_so(net, monkeypatch, caplog, failure):
    monkeypatch.setenv("FAIL_CUDA", failure)
    before = net.cudart.last_errors_asked_for()
    with caplog.at_level("INFO"), open_runner("tensorrt", "model.fp32.onnx") as runner:
        for _ in range(4):
            np.testing.assert_allclose(runner.infer(batch(1)), batch(1).mean((1, 2)), rtol=1e-5)
    assert re.search(f"no CUDA graph is used; .*: {failure.split()[0]} failed", caplog.text)
    assert len(caplog.records) == 1
    # TensorRT is not to find it as its own.
    assert net.cudart.last_errors_asked_for() == before + 1


def test_batches_are_split_for_an_engine_of_batch_size_one(net):
    net.spec = SPEC._replace(max_batch=1)
    with open_runner("tensorrt", "model.fp32.onnx") as runner:
        np.testing.assert_allclose(runner.infer(batch(3)), batch(3).mean((1, 2)), rtol=1e-5)
        assert runner.transfer_ms == 1.5


def test_an_engine_for_a_dla_is_loaded_for_its_core_and_a_version_compatible_one_may_run_its_own_code(net):
    open_runner("tensorrt", "model.fp32.onnx").close()
    assert not {"DLA_core", "engine_host_code_allowed"} & set(net.settings)
    net.spec = SPEC._replace(dla=1, version_compatible=True)
    open_runner("tensorrt", "model.fp32.onnx").close()
    assert (net.settings["DLA_core"], net.settings["engine_host_code_allowed"]) == (1, True)


def test_the_precision_of_each_layer_is_in_the_facts(net):
    net.layers = [
        {"Name": "conv1", "Inputs": [{"Format/Datatype": "Four wide channel vectorized row major Int8 format"}]},
        {"Name": "conv2", "Inputs": [{"Format/Datatype": "Half"}, {"Format/Datatype": "Float"}]},
        {"Name": "fc", "Inputs": [{"Format/Datatype": "Row major linear FP32 format"}]},
        {"Name": "odd", "Inputs": []},
        "only a name",
    ]
    with open_runner("tensorrt", "model.fp32.onnx") as runner:
        if net.module.__version__.startswith("8.0"):
            assert runner.facts["layer_precisions"] == "unknown"
            return
        names = {"conv1": "INT8", "conv2": "FP16", "fc": "FP32", "odd": "unknown", "only a name": "unknown"}
        assert runner.facts["layers"] == names
        assert runner.facts["layer_precisions"] == {"FP16": 1, "FP32": 1, "INT8": 1, "unknown": 2}


def test_without_an_inspectors_report_the_precisions_are_unknown(net):
    net.layers = None
    with open_runner("tensorrt", "model.fp32.onnx") as runner:
        assert runner.facts["layer_precisions"] == "unknown"


def test_memory_that_runs_out_is_an_error_and_leaves_nothing(net, monkeypatch):
    monkeypatch.setenv("FAIL_CUDA", "cudaMalloc 2")
    with pytest.raises(BackendError, match=r"the GPU's memory is full"):
        open_runner("tensorrt", "model.fp32.onnx")


def test_the_version_is_tensorrts(net):
    assert backend_version("tensorrt") == net.module.__version__


def test_without_tensorrt_the_error_on_a_pc_names_pips_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert backend_version("tensorrt") is None
    with pytest.raises(
        BackendError, match=r"TensorRT is not installed for .*; install it: .* -m pip install tensorrt$"
    ):
        open_runner("tensorrt", "model.fp32.onnx")


@pytest.mark.parametrize(("nodes", "useless"), [([], True), (["dev/nvidia0"], False)])
def test_without_a_gpu_the_error_says_that_tensorrt_needs_one(monkeypatch, nodes, useless):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(versions, "gpu_nodes", lambda: nodes)
    with pytest.raises(BackendError) as caught:
        open_runner("tensorrt", "model.fp32.onnx")
    assert (
        "TensorRT needs an NVIDIA GPU, and this machine has none; TensorRT is not installed" in str(caught.value)
    ) is useless


def test_any_error_of_the_library_is_a_backend_error_with_its_words_and_nothing_leaks(net):
    def fail(*_):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    make = net.module.Runtime
    net.module.Runtime = fail
    with pytest.raises(BackendError, match=r"TensorRT \S+ cannot load model.fp32.onnx: TypeError: .* returned nullptr"):
        open_runner("tensorrt", "model.fp32.onnx")
    net.module.Runtime = make
    with open_runner("tensorrt", "model.fp32.onnx") as runner:
        net.compute = fail
        with pytest.raises(BackendError, match=r"TensorRT failed on a batch of shape .*: TypeError: "):
            runner.infer(batch(1))


def test_threads_share_a_classifier_on_tensorrt_which_infers_one_by_one(net):
    runner = Watched(open_runner("tensorrt", "model.fp32.onnx"))
    colors = [np.full((4, 5, 3), color, np.uint8) for color in ([200, 0, 0], [0, 200, 0], [0, 0, 200])]
    with Classifier(runner, ["red", "green", "blue"], Preprocessing(4, 5, color="BGR")) as shared:
        found = in_threads(8, lambda number: [shared.classify(colors[number % 3]).label for _ in range(20)])
    assert found == [[["red", "green", "blue"][number % 3]] * 20 for number in range(8)]
    assert runner.wrong == []
    assert runner.was_closed.is_set()


@pytest.mark.parametrize(
    ("release", "python", "remedy"),
    [
        (
            "R32.7.1",
            (3, 9),
            "JetPack 4.6 has it for Python 3.6 only: start with /usr/bin/python3; install it: sudo apt",
        ),
        ("R36.4.3", (3, 10), "; install it: sudo apt-get install python3-libnvinfer"),
        ("R36.4.3", (3, 12), "JetPack 6 has it for Python 3.10 only"),
        (None, (3, 10), "in a container, use one of NVIDIA's l4t images"),
    ],
)
def test_without_tensorrt_the_error_on_a_jetson_names_the_package_and_the_python_of_its_jetpack(
    monkeypatch, release, python, remedy
):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(versions, "is_jetson", lambda: True)
    monkeypatch.setattr(versions, "jetson_linux", lambda: release)
    monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))
    with pytest.raises(BackendError) as missing:
        load_tensorrt()
    assert remedy in str(missing.value)


def test_a_tensorrt_before_8_0_is_too_old(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", Net("7.1.3.0").module)
    with pytest.raises(BackendError, match=r"TensorRT 7.1.3.0 is too old; 8.0 or later is needed"):
        open_runner("tensorrt", "model.fp32.onnx")


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU")
def test_the_real_libraries_without_a_gpu_give_a_one_line_error():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((rig(BUILDS), str(Path(trt.__file__).parents[2])))}
    done = subprocess.run([sys.executable, "-c", REFUSED], env=environment, capture_output=True, text=True, check=True)
    assert "cudaGetDeviceCount failed: " in done.stdout
    assert "driver" in done.stdout
    assert done.stderr == ""
