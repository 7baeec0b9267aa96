"""The backends on the bundle's real files, and their errors."""

import base64
import importlib.machinery
import logging
import os
import struct
import sys
import threading
import types

import cv2
import numpy as np
import onnxruntime
import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.golden import check_golden, golden_images, project, read_golden
from edgeclf_runtime.device.machine import physical_cores
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.images.preprocess import as_batch, preprocess
from edgeclf_runtime.runners import RUNNERS, backend_version, open_runner, opencv_onnx, openvino
from edgeclf_runtime.runners import onnxruntime as ort
from edgeclf_runtime.runners.onnxruntime import has_cuda
from tests.support.cuda_builds import CPU, CUDA, EXACT_CUDA, CudaBuild

NO_OPENVINO = pytest.mark.skipif(backend_version("openvino") is None, reason="openvino is not installed")
# TensorRT needs a GPU; tests/runtime/trt/nvidia/test_runner.py is about it.
ON_THE_CPU = [
    pytest.param(backend, marks=NO_OPENVINO) if backend == "openvino" else backend
    for backend in RUNNERS
    if not backend.startswith("tensorrt")
]

# ReduceMean of float32 [1, 96, 32, 32] over its last two axes.
MEAN = base64.b64decode(
    b"CAc6ewo7CgVpbWFnZRIGbG9naXRzIgpSZWR1Y2VNZWFuKg0KBGF4ZXNAAkADoAEHKg8KCGtlZXBkaW1zGACgAQISAWdaHwoFaW1hZ2USFgoUCAESEAoC"
    b"CAEKAghgCgIIIAoCCCBiGAoGbG9naXRzEg4KDAgBEggKAggBCgIIYEIECgAQDQ=="
)


@pytest.fixture(scope="module")
def opened(bundle):
    return open_bundle(bundle)


@pytest.fixture(scope="module")
def file(opened):
    return opened.file(opened.model("fp32").file)


@pytest.fixture(scope="module")
def batch(opened):
    return as_batch([preprocess(image, opened.preprocessing) for image in golden_images(opened)])


@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_every_backend_gives_the_float_models_golden_logits(opened, file, backend):
    with open_runner(backend, file) as runner:
        report = check_golden(opened, opened.model("fp32"), runner)
        assert report.passed, report
        assert report.largest_difference < 1e-3
        assert (runner.backend, runner.device) == (backend, "cpu")


@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_a_batch_gives_the_rows_of_each_image_and_one_image_still_its_own(opened, file, batch, backend):
    expected = np.array(read_golden(opened)["logits"]["fp32"], np.float32)
    with open_runner(backend, file) as runner:
        for rows in (slice(0, 1), slice(None), slice(1, 2)):
            logits = runner.infer(batch[rows])
            assert logits.dtype == np.float32
            assert np.allclose(logits, expected[rows], atol=1e-3)


@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_every_backend_gives_the_features_beside_the_logits(opened, file, batch, backend):
    expected = np.array(read_golden(opened)["features"]["fp32"])
    with open_runner(backend, file) as runner:
        logits, features = runner.infer_outputs(batch)
        assert features.dtype == np.float32
        assert features.shape == (len(batch), opened.model("fp32").features)
        assert np.allclose(project(features), expected, atol=1e-4 * np.ptp(expected))
        assert np.array_equal(runner.infer(batch), logits)


@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_a_file_of_an_earlier_edgeclf_has_no_features(tmp_path, backend):
    if backend == "opencv" and pytest.importorskip("cv2").__version__.startswith("4.1."):
        pytest.skip("OpenCV 4.1 has no mean over two of four axes")
    (tmp_path / "model.fp32.onnx").write_bytes(MEAN)
    image = np.random.RandomState(0).uniform(0, 255, (1, 96, 32, 32)).astype(np.float32)
    with open_runner(backend, str(tmp_path / "model.fp32.onnx"), threads=1) as runner:
        logits, features = runner.infer_outputs(image)
    assert features is None
    np.testing.assert_allclose(logits, image.mean((2, 3)), rtol=1e-4)


@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_the_logits_of_one_inference_outlive_the_next(file, batch, backend):
    with open_runner(backend, file) as runner:
        first = runner.infer(batch[:1])
        kept = first.copy()
        runner.infer(batch[1:2])
        assert np.array_equal(first, kept)


@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_a_batch_of_another_shape_is_a_backend_error(file, backend):
    with open_runner(backend, file, threads=1) as runner, pytest.raises(BackendError, match=r"shape \[64, 64, 3\]"):
        runner.infer(np.zeros((64, 64, 3), np.float32))


@pytest.mark.parametrize("backend", ON_THE_CPU)
@pytest.mark.parametrize("content", [b"", b"no model", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 64])
def test_a_file_that_is_not_a_model_is_a_backend_error_that_names_it(tmp_path, backend, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BackendError, match=r"cannot load .*model\.onnx"):
        open_runner(backend, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("backend", "library", "install"),
    [
        ("onnxruntime", "onnxruntime", "-m pip install onnxruntime"),
        ("opencv", "cv2", "install .*opencv"),
        pytest.param("openvino", "openvino", "-m pip install openvino", marks=NO_OPENVINO),
    ],
)
def test_a_backend_that_is_missing_says_what_to_install(file, monkeypatch, backend, library, install):
    assert backend_version(backend)[0].isdigit()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BackendError, match=f"is not installed for .*{install}"):
        open_runner(backend, file)
    assert backend_version(backend) is None


def test_an_openvino_that_pip_does_not_have_for_this_python_is_not_recommended():
    openvino.check_python((3, 8))
    message = "OpenVINO 2023.1 or later is needed, which supports Python 3.8 and later, not 3.6: use another backend"
    with pytest.raises(BackendError, match=message):
        openvino.check_python((3, 6))


@pytest.mark.skipif(sys.version_info < (3, 8), reason="OpenVINO is for Python 3.8 and later")
def test_an_openvino_that_is_too_old_is_replaced(file, monkeypatch):
    old = types.ModuleType("openvino")
    old.__spec__ = importlib.machinery.ModuleSpec("openvino", None)
    monkeypatch.setitem(sys.modules, "openvino", old)
    with pytest.raises(
        BackendError, match=r"is too old; 2023\.1 or later is needed: .* -m pip install 'openvino>=2023\.1'"
    ):
        open_runner("openvino", file)


@NO_OPENVINO
def test_an_openvino_that_a_quantized_file_crashes_is_an_error(bundle, tmp_path, monkeypatch):
    (tmp_path / "openvino.py").write_text(
        "import os, signal\n"
        "class Core:\n"
        "    def read_model(self, data):\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened = open_bundle(bundle)
    with pytest.raises(BackendError, match=r"OpenVINO .*crashes with this file \(SIGSEGV\)"):
        open_runner("openvino", opened.file(opened.model("int8-cpu").file))


@NO_OPENVINO
def test_a_quantized_file_that_openvino_compiled_before_is_compiled_once(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    started, start = [], openvino.start_child
    monkeypatch.setattr(openvino, "start_child", lambda *given, **more: started.append(given) or start(*given, **more))
    opened = open_bundle(bundle)

    def children(threads):
        del started[:]
        with open_runner("openvino", opened.file(opened.model("int8-cpu").file), threads=threads):
            return len(started)

    assert [children(1), children(1), children(2)] == [1, 0, 1]


def test_a_backend_that_nobody_knows_is_answered_with_those_that_there_are(file):
    with pytest.raises(BackendError, match="there is no backend 'abacus'; choose from onnxruntime, opencv, openvino"):
        open_runner("abacus", file)
    with pytest.raises(BackendError, match="there is no backend 'abacus'"):
        backend_version("abacus")


@pytest.mark.parametrize("failure", ["raises", "infers", "falls back"])
def test_where_cuda_fails_the_cpu_is_used_and_the_reason_is_logged(opened, file, monkeypatch, caplog, capfd, failure):
    build = CudaBuild(monkeypatch, failure)
    with caplog.at_level(logging.WARNING), open_runner("onnxruntime", file) as runner:
        assert runner.device == "cpu"
        assert check_golden(opened, opened.model("fp32"), runner).passed
    assert build.asked == [[EXACT_CUDA, CPU], [CUDA, CPU], [CPU]]
    assert "uses the CPU, CUDA failed: " in caplog.text
    assert "libcudnn.so.9" in caplog.text
    assert capfd.readouterr().out == ""


def test_results_that_other_threads_print_while_cuda_is_tried_reach_stdout(capsys):
    with ort._own_stdout() as said:
        print("EP Error: falling back")
        thread = threading.Thread(target=print, args=("a result",))
        thread.start()
        thread.join()
    assert said.getvalue() == "EP Error: falling back\n"
    assert capsys.readouterr().out == "a result\n"


@pytest.mark.parametrize(("failure", "asked"), [(None, [EXACT_CUDA]), ("is old", [EXACT_CUDA, CUDA])])
def test_where_cuda_works_it_is_used_as_exactly_as_it_can_and_said(file, monkeypatch, caplog, failure, asked):
    build = CudaBuild(monkeypatch, failure)
    with open_runner("onnxruntime", file) as runner:
        assert (runner.backend, runner.device) == ("onnxruntime", "cuda")
    assert build.asked == [[provider, CPU] for provider in asked]
    assert caplog.text == ""
    assert backend_version("onnxruntime").endswith(" with CUDA")


def test_a_quantized_file_goes_to_the_cpu_whose_int8_cuda_has_not(opened, monkeypatch):
    build = CudaBuild(monkeypatch)
    with open_runner("onnxruntime", opened.file(opened.model("int8-cpu").file), threads=1) as runner:
        assert runner.device == "cpu"
    assert build.asked == [[CPU]]


def test_a_build_with_cuda_is_known_without_loading_it(tmp_path, monkeypatch):
    assert not has_cuda()
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "onnxruntime/capi").mkdir(parents=True)
    (tmp_path / "onnxruntime/__init__.py").write_text("raise RuntimeError('loaded')")
    assert not has_cuda()
    (tmp_path / "onnxruntime/capi/libonnxruntime_providers_cuda.so").write_text("")
    assert has_cuda()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert not has_cuda()


def test_onnxruntime_does_not_answer_a_failure_by_itself(file, capfd):
    with open_runner("onnxruntime", file) as runner:
        assert runner._session._enable_fallback is False
        with pytest.raises(BackendError):
            runner.infer(np.zeros((1, 2, 2, 3), np.float32))
    assert capfd.readouterr().out == ""


def test_idle_threads_of_onnxruntime_do_not_spin(file):
    with open_runner("onnxruntime", file, threads=1) as runner:
        options = runner._session.get_session_options()
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"
        assert options.intra_op_num_threads == 1


def test_onnxruntime_binds_no_thread_to_a_processor(file, monkeypatch):
    """ONNX Runtime binds them if it chooses their number itself."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with open_runner("onnxruntime", file) as runner:
        assert runner._session.get_session_options().intra_op_num_threads == physical_cores()


def test_onnxruntime_takes_no_more_threads_than_openmp_may(file, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with open_runner("onnxruntime", file) as runner:
        assert runner._session.get_session_options().intra_op_num_threads == 1


def test_openvino_takes_no_more_threads_than_openmp_may(file, monkeypatch):
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with open_runner("openvino", file) as runner:
        assert runner._model.get_property("INFERENCE_NUM_THREADS") == 1


def test_opencv_takes_no_more_threads_than_openmp_may(file, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        open_runner("opencv", file).close()
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_a_runner_can_be_closed_twice(file, backend):
    runner = open_runner(backend, file)
    runner.close()
    runner.close()


# ONNX files of one Clip, built by hand since a device has no onnx package.


def field(number, payload):
    assert len(payload) < 16384
    size = bytes([len(payload)]) if len(payload) < 128 else bytes([len(payload) & 127 | 128, len(payload) >> 7])
    return bytes([number << 3 | 2]) + size + payload


def tensor(name, value):
    return b"\x10\x01" + field(8, name) + field(9, struct.pack("<f", value))


def constant(name, value):
    attribute = field(1, b"value") + field(5, tensor(b"", value)) + b"\xa0\x01\x04"
    return field(1, field(2, name) + field(4, b"Constant") + field(5, attribute))


def clip_node(*inputs):
    return field(1, b"".join(field(1, name) for name in inputs) + field(2, b"y") + field(4, b"Clip"))


def described(name):
    dims = field(1, b"\x08\x01") + field(1, b"\x08\x04")
    return field(1, name) + field(2, field(1, b"\x08\x01" + field(2, dims)))


def model(*nodes):
    graph = b"".join(nodes) + field(2, b"g") + field(11, described(b"x")) + field(12, described(b"y"))
    return b"\x08\x07" + field(7, graph) + field(8, field(1, b"") + b"\x10\x0d")


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([constant(b"l", -1.0), constant(b"h", 2.5), clip_node(b"x", b"l", b"h")], [-1.0, -0.5, 2.5, 2.5]),
        (
            [field(5, tensor(b"l", -1.0)), field(5, tensor(b"h", 2.5)), clip_node(b"x", b"l", b"h")],
            [-1, -0.5, 2.5, 2.5],
        ),
        ([constant(b"h", 2.5), clip_node(b"x", b"", b"h")], [-9, -0.5, 2.5, 2.5]),
        ([constant(b"l", -1.0), clip_node(b"x", b"l")], [-1, -0.5, 5, 99]),
    ],
    ids=["constants", "initializers", "no minimum", "no maximum"],
)
def test_opencv_clips_at_any_bounds(tmp_path, nodes, expected):
    data = model(*nodes)
    values = np.array([[-9, -0.5, 5, 99]], np.float32)
    path = os.path.join(str(tmp_path), "clip.onnx")
    with open(path, "wb") as stream:
        stream.write(data)
    session = onnxruntime.InferenceSession(path, providers=[CPU])
    assert session.run(None, {"x": values})[0].tolist() == [expected]
    net = pytest.importorskip("cv2").dnn.readNetFromONNX(
        np.frombuffer(opencv_onnx.give_clip_attributes(data), np.uint8)
    )
    net.setInput(values)
    assert net.forward().tolist() == [expected]


def test_a_clip_whose_bounds_are_computed_is_left_as_it_is():
    for data in (model(clip_node(b"x", b"somewhere", b"else")), model(clip_node(b"x")), b"", b"\x3a\x05no", b"\xff"):
        assert opencv_onnx.give_clip_attributes(data) == data


def test_inferences_at_once_share_the_threads_where_the_backend_can_do_them(monkeypatch):
    class Kept:
        def __init__(self, path, threads):
            self.threads = threads

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("edgeclf_runtime.runners.cores", lambda: 6)
    monkeypatch.setattr("edgeclf_runtime.runners.onnxruntime.OnnxRuntimeRunner", Kept)
    for concurrent, expected in ((True, [None, 4, 3, 2, 1, 1]), (False, [None, 4, None, 4, None, 2])):
        Kept.concurrent = concurrent
        asked = [(None, 1), (4, 1), (None, 2), (4, 2), (None, 6), (2, 3)]
        assert [open_runner("onnxruntime", "", *pair).threads for pair in asked] == expected


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_opencv_computes_means_with_several_threads(tmp_path, threads):
    import cv2

    if cv2.__version__.startswith("4.1."):
        pytest.skip("OpenCV 4.1 has no mean over two of four axes")
    path = tmp_path / "model.fp32.onnx"
    path.write_bytes(MEAN)
    image = np.random.RandomState(0).uniform(0, 255, (1, 96, 32, 32)).astype(np.float32)
    before = cv2.getNumThreads()
    try:
        with open_runner("opencv", str(path), threads=threads) as runner:
            np.testing.assert_allclose(runner.infer(image), image.mean((2, 3)), rtol=1e-4)
    finally:
        cv2.setNumThreads(before)
