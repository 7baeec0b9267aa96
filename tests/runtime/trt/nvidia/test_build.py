"""``build`` on a whole bundle: real builds, and inference by a stand-in that gives the expected logits."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from types import SimpleNamespace

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgeclf_runtime.__main__ import main
from edgeclf_runtime.bundle.open_bundle import Tolerance, open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.golden import golden_images
from edgeclf_runtime.classify.selection import candidates
from edgeclf_runtime.classify.tuning import parent
from edgeclf_runtime.classify.tuning.choice import choose
from edgeclf_runtime.classify.tuning.memory import Figures
from edgeclf_runtime.commands import build as engine_build
from edgeclf_runtime.commands.build import build
from edgeclf_runtime.commands.selftest import selftest
from edgeclf_runtime.device import child_process
from edgeclf_runtime.errors import BackendError, OptionError
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.trt import cuda, engine, gpu
from edgeclf_runtime.trt.engine_spec import EngineOptions, resolve
from tests.support.gpus import GPU, Net, make_cudart
from tests.support.tensorrt_rig import BUILDS, rig


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return make_cudart(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def net(bundle, library, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", rig(BUILDS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cuda, "_library_paths", lambda: [library])
    monkeypatch.setattr(gpu, "_DRIVER", library)
    monkeypatch.setattr(gpu, "_maps", lambda: "")
    monkeypatch.setattr(cuda, "_context", gpu.Context())
    ctypes.CDLL(library).cudaDeviceReset()
    net = Net(BUILDS, ctypes.CDLL(library))
    session = onnxruntime.InferenceSession(str(bundle / "model.fp32.onnx"))
    net.shapes = {"logits": (-1, 3), "features": (-1, session.get_outputs()[1].shape[1]), "image": (-1, 64, 64, 3)}
    net.compute = lambda batch: session.run(["logits"], {"image": batch})[0]
    net.features = lambda batch: session.run(["features"], {"image": batch})[0]
    monkeypatch.setitem(sys.modules, "tensorrt", net.module)
    return net


@pytest.fixture
def opened(bundle, monkeypatch):
    """The bundle, its fp32 model for TensorRT too whatever its manifest says, and no other for it."""
    opened = open_bundle(bundle)
    models = [
        model._replace(backends=("tensorrt", "onnxruntime"))
        if model.name == "fp32"
        else model._replace(backends=("onnxruntime",))
        for model in opened.models
    ]
    opened = opened._replace(models=tuple(models), order={"default": ["fp32", "int8-cpu"]})
    monkeypatch.setattr("edgeclf_runtime.commands.build.open_bundle", lambda path: opened)
    return opened


@pytest.mark.slow
def test_what_is_right_is_kept_and_the_fastest_is_found(net, opened):
    report = build(opened.path)
    assert [engine.model for engine in report.engines] == ["fp32"]
    assert report.failures == {}
    assert report.fastest in ("fp32 on tensorrt", "fp32 on onnxruntime", "int8-cpu on onnxruntime")
    assert report.to_dict() == json.loads(json.dumps(report.to_dict()))
    text = str(report)
    assert text.startswith(f"TensorRT {BUILDS} on {GPU}, engines in {os.environ['XDG_CACHE_HOME']}/edgeclf/engines\n")
    assert "\nready: fp32 (fp32), 14." in text
    assert "\nfastest here: " in text
    assert ", layers: 1 FP16\n" in text


@pytest.mark.slow
def test_an_engine_with_other_logits_is_reported(net, opened):
    compute = net.compute
    net.compute = lambda batch: compute(batch) + 1
    report = build(opened.path, precision="fp32")
    assert report.engines == ()
    assert report.fastest is None
    assert "\nnot built: fp32 on tensorrt: FAIL: fp32 on tensorrt: " in str(report)


def test_fp16_without_an_fp16_model_is_an_fp32_engine_and_says_so(net, opened):
    report = build(opened.path, precision="fp16")
    assert report.engines[0].precision == "fp32"
    assert str(report).endswith("\nthe bundle has no fp16 model for TensorRT, so this is an FP32 engine")


def test_the_error_for_a_missing_precision_lists_those_in_the_bundle(net, opened):
    with pytest.raises(BackendError, match=r"the bundle has no int8 model for TensorRT; use --precision fp32"):
        build(opened.path, precision="int8")
    with pytest.raises(OptionError, match=r"there is no precision 'int4'; choose from best, fp32, fp16, int8"):
        build(opened.path, precision="int4")


def test_a_bundle_or_a_model_that_is_not_for_tensorrt_is_one_sentence(net, opened, monkeypatch):
    with pytest.raises(BackendError, match=r"the model int8-cpu is not for TensorRT; leave out --model"):
        build(opened.path, "int8-cpu")
    other = opened._replace(order={"default": ["int8-cpu"]})
    monkeypatch.setattr("edgeclf_runtime.commands.build.open_bundle", lambda path: other)
    with pytest.raises(BackendError, match=r"has no model for TensorRT on this machine \(.*--target"):
        build(opened.path)


def test_without_a_gpu_it_is_one_sentence(net, opened, monkeypatch):
    monkeypatch.setenv("FAIL_CUDA", "cudaGetDeviceCount 100")
    with pytest.raises(BackendError, match=r"no NVIDIA GPU can be used here"):
        build(opened.path)


@pytest.mark.slow
def test_a_classifier_runs_on_the_engine_and_on_the_next_backend_when_the_gpu_fails(net, opened, monkeypatch, caplog):
    image = golden_images(opened)[0]
    with Classifier.open(opened, model="fp32") as classifier:
        first = classifier.classify(image)
        monkeypatch.setenv("FAIL_CUDA", "cudaGraphLaunch 700")
        second = classifier.classify(image)
    assert (first.backend, second.backend) == ("tensorrt", "onnxruntime")
    assert first.label == second.label
    assert "fp32 on tensorrt is replaced by fp32 on onnxruntime: cudaGraphLaunch failed: " in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("cudaGetDeviceCount 35", "there is no NVIDIA driver, or it is older than this CUDA"),
        ("cudaGetDeviceCount 100", "no NVIDIA GPU can be used here"),
        ("cudaMalloc 2", "the GPU's memory is full"),
        ("plan", "TensorRT cannot load the engine; build it again: build --retry: magicTag does not match"),
        ("disk", "MB free, and an engine needs 25 MB; free some space"),
        ("abort", "TensorRT ended the building process of model.fp32.onnx by signal 6"),
        ("operator", "In node 0 with name: odd and operator: Odd"),
    ],
)
def test_whatever_stops_tensorrt_the_next_backend_classifies_and_the_log_says_why(
    net, opened, monkeypatch, caplog, failure, reason
):
    if failure == "plan":
        net.loads = False
    elif failure == "disk":
        monkeypatch.setattr("edgeclf_runtime.trt.engine.shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    elif failure == "abort":
        monkeypatch.setattr(child_process, "_START", "import os; os.abort()")
    elif failure == "operator":
        bad = odd_model(os.environ["XDG_CACHE_HOME"])
        monkeypatch.setattr(engine, "resolve", lambda *given: with_source(resolve(*given), bad))
    else:
        monkeypatch.setenv("FAIL_CUDA", failure)
    with Classifier.open(opened, model="fp32") as classifier:
        assert classifier.backend == "onnxruntime"
        assert classifier.classify(golden_images(opened)[0]).label
    assert "passed over fp32 on tensorrt: " in caplog.text
    assert reason in caplog.text


def with_source(spec, path):
    """A specification for another model file."""
    return spec._replace(source=path, model_sha256=sha256_file(path))


def odd_model(folder):
    """The path of a model with an operator that no TensorRT has."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    node = helper.make_node("Odd", ["image"], ["logits"], name="odd")
    graph = helper.make_graph([node], "graph", [image], [logits])
    os.makedirs(folder)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), os.path.join(folder, "odd.onnx"))
    return os.path.join(folder, "odd.onnx")


def test_without_a_dla_the_default_engine_stays_in_use(net, opened):
    report = build(opened.path, precision="fp32", options=EngineOptions(dla=0))
    assert report.failures == {
        "fp32 on tensorrt": "DLA supports only FP16 and INT8; use --precision fp16 or int8, or leave out --dla"
    }
    with Classifier.open(opened, model="fp32") as classifier:
        assert classifier.backend == "tensorrt"


@pytest.mark.slow
def test_an_engine_that_was_asked_for_and_gives_other_logits_is_not_used(net, opened):
    build(opened.path, precision="fp32")
    compute = net.compute
    net.compute = lambda batch: compute(batch) + 1
    assert build(opened.path, precision="fp32", options=EngineOptions(level=1)).engines == ()
    net.compute = compute
    with Classifier.open(opened, model="fp32") as classifier:
        assert classifier.backend == "tensorrt"
        assert classifier.runner.facts["key"]["optimization_level"] == 3
    assert build(opened.path, precision="fp32", options=EngineOptions(level=1)).engines
    with Classifier.open(opened, model="fp32") as classifier:
        assert classifier.runner.facts["key"]["optimization_level"] == 1


def test_after_a_killed_build_the_next_backend_is_used(net, opened, monkeypatch, caplog):
    monkeypatch.setattr(child_process, "_START", "import os; os.kill(os.getpid(), 9)")
    with Classifier.open(opened, model="fp32") as classifier:
        assert classifier.backend == "onnxruntime"
    assert "passed over fp32 on tensorrt: the build of the engine of model.fp32.onnx was killed" in caplog.text


def test_the_devices_command_line_passes_every_option_on(net, opened, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(engine_build, "build", lambda *given: asked.append(given) or build(opened.path, "int8-cpu"))
    options = "--precision int8 --dla 1 --calibration photos --calibrator --level 0 --workspace 128 --retry"
    assert main(["build", opened.path, *options.split(), "--version-compatible", "--hardware-compatible"]) == 1
    wanted = EngineOptions(
        workspace=128,
        level=0,
        dla=1,
        calibrator=True,
        calibration="photos",
        version_compatible=True,
        hardware_compatible=True,
        retry=True,
    )
    assert asked == [(opened.path, None, "int8", wanted)]
    assert capsys.readouterr().err.startswith("error: the model int8-cpu is not for TensorRT")
    with pytest.raises(SystemExit):
        main(["build", opened.path, "--dla", "one"])
    assert "'one' is not a core number; 0 or 1 was expected" in capsys.readouterr().err


@pytest.fixture
def two_models(net, opened, monkeypatch):
    """The bundle with fp32 and fp16 for TensorRT; fp16's golden logits are of no interest."""
    loose = {"default": Tolerance(99.0, 99.0, 99.0)}
    backends = {"fp32": ("tensorrt", "onnxruntime"), "fp16": ("tensorrt",)}
    models = tuple(
        model._replace(backends=backends[model.name], tolerances=loose if model.name == "fp16" else model.tolerances)
        for model in opened.models
        if model.name in backends
    )
    bundle = opened._replace(models=models, order={"default": ["fp16", "fp32"]})
    monkeypatch.setattr("edgeclf_runtime.commands.build.open_bundle", lambda path: bundle)
    monkeypatch.setattr("edgeclf_runtime.commands.selftest.open_bundle", lambda path: bundle)
    return bundle


@pytest.fixture
def contexts(net, monkeypatch):
    """Return whether this process had a CUDA context, each time that a building process was started."""
    found = []
    real = engine.build_engine
    monkeypatch.setattr(engine, "build_engine", lambda *given: found.append(net.cudart.has_context()) or real(*given))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    [
        lambda bundle: Classifier.open(bundle, model="fp32").close(),
        lambda bundle: build(bundle.path),
        lambda bundle: selftest(bundle.path),
    ],
    ids=["run", "build", "selftest"],
)
def test_cuda_is_opened_after_the_last_build(net, two_models, contexts, work):
    before = net.cudart.resets_asked_for()
    work(two_models)
    assert set(contexts) == {0}
    assert net.cudart.has_context()
    assert net.cudart.resets_asked_for() == before


@pytest.mark.slow
def test_tuning_builds_every_engine_before_another_process_measures(net, two_models, contexts, monkeypatch):
    begun = []
    monkeypatch.setattr(parent, "measure", lambda *_: begun.extend(contexts) or Figures({}, {}))
    choose(two_models, candidates(two_models), tune=True)
    assert begun == [0, 0]
    assert not net.cudart.has_context()


@pytest.mark.slow
def test_when_a_model_fails_cuda_is_closed_before_the_next_engine_is_built(net, two_models, contexts, caplog):
    strict = {"default": Tolerance(0.0, 0.0, 0.0)}
    models = tuple(m._replace(tolerances=strict) if m.name == "fp16" else m for m in two_models.models)
    with Classifier.open(two_models._replace(models=models)) as classifier:
        assert (classifier.model, classifier.backend) == ("fp32", "tensorrt")
    assert "passed over fp16 on tensorrt: FAIL" in caplog.text
    assert contexts == [0, 0]


@pytest.mark.slow
def test_a_context_of_another_library_stays_while_an_engine_is_built(net, two_models, contexts):
    net.cudart.cudaMemGetInfo(ctypes.byref(ctypes.c_size_t()), ctypes.byref(ctypes.c_size_t()))
    before = net.cudart.resets_asked_for()
    with Classifier.open(two_models, model="fp32") as classifier:
        assert classifier.backend == "tensorrt"
    assert contexts == [1]
    assert net.cudart.resets_asked_for() == before
