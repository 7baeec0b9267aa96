"""What only a machine with an NVIDIA GPU can show; elsewhere each is skipped, and says why."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import edgeclf
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.selection import open_proven
from edgeclf_runtime.commands.bench import bench
from edgeclf_runtime.commands.build import build
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.runners import open_runner, tensorrt_rtx
from edgeclf_runtime.trt import cuda
from edgeclf_runtime.trt.cuda import PyCuda, RuntimeCuda
from edgeclf_runtime.trt.versions import load_tensorrt

pytestmark = pytest.mark.gpu
FOR_TENSORRT = ("fp32", "fp16", "int8-tensorrt")


def skip_without(*wanted):
    """Call each; what it lacks is the reason to skip."""
    for need in wanted:
        try:
            need()
        except (BackendError, ImportError) as error:
            pytest.skip(str(error))


@pytest.fixture(autouse=True)
def gpu():
    skip_without(lambda: cuda.open_cuda().close())


@pytest.fixture
def tensorrt_here(gpu, tmp_path, monkeypatch):
    skip_without(load_tensorrt)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("kind", [RuntimeCuda, PyCuda])
def test_numbers_go_to_the_gpu_and_come_back_and_a_graph_does_it_again(kind):
    skip_without(lambda: kind().close())
    opened = kind()
    given, back = opened.pinned((8, 3)), opened.pinned((8, 3))
    address = opened.allocate(given.nbytes)

    def there_and_back():
        opened.upload(address, given)
        opened.download(back, address)
        return True

    there_and_back()
    graph = opened.record(there_and_back)
    given[...] = np.arange(24).reshape(8, 3)
    graph.launch()
    opened.synchronize()
    assert (back == given).all()
    graph.close()
    given = back = None
    opened.close()


def test_every_model_for_tensorrt_passes_its_golden_images(tensorrt_here, bundle):
    report = build(bundle)
    assert report.failures == {}
    assert {engine.model for engine in report.engines} == set(FOR_TENSORRT)
    assert all(engine.facts["layer_precisions"] != "unknown" for engine in report.engines)


def test_a_graphs_logits_are_those_of_the_first_inference(tensorrt_here, bundle):
    batch = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    with open_runner("tensorrt", open_bundle(bundle).file("model.fp32.onnx")) as runner:
        first = runner.infer(batch)
        assert all((runner.infer(batch) == first).all() for _ in range(5))
        assert runner._graph is not None


def test_frames_are_measured_from_end_to_end(tensorrt_here, bundle):
    report = bench(bundle, repeat=50, backend="tensorrt")
    assert set(report.latency_ms) == set(FOR_TENSORRT)
    print(report)


def test_onnxruntimes_cuda_passes_the_golden_images(bundle):
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime was built without CUDA: pip install onnxruntime-gpu")
    opened = open_bundle(bundle)
    with open_proven(opened, opened.model("fp32"), "onnxruntime") as runner:
        assert runner.device == "cuda"


def test_the_rtx_plug_in_passes_the_golden_images(bundle):
    skip_without(lambda: tensorrt_rtx._devices(onnxruntime, tensorrt_rtx._plug_in()))
    opened = open_bundle(bundle)
    for name in FOR_TENSORRT:
        open_proven(opened, opened.model(name), "tensorrt-rtx").close()


def test_torch_fine_tunes_on_the_gpu(digits, tmp_path):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU that it can use")
    torch.cuda.reset_peak_memory_stats()
    edgeclf.train(digits, tmp_path / "run", edgeclf.TrainOptions(image_size=64, epochs=2, finetune="full"))
    assert torch.cuda.max_memory_allocated() > 1 << 20
