import ctypes
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from edgeclf_runtime.commands.report import parts
from edgeclf_runtime.device.machine import memory_bytes
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.trt import cuda, gpu
from edgeclf_runtime.trt.cuda import Device, PyCuda, RuntimeCuda, find_device, open_cuda, release_cuda
from tests.support.gpus import GPU, make_cudart
from tests.support.pycuda_driver import PyCudaDriver


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return make_cudart(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def pycuda(monkeypatch):
    """A stand-in for pycuda.driver."""
    driver = PyCudaDriver()
    monkeypatch.setitem(sys.modules, "pycuda", SimpleNamespace(driver=driver))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    return driver


@pytest.fixture
def no_pycuda(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)


@pytest.fixture
def cudart(no_pycuda, library, monkeypatch):
    """The stand-in in place of any libcudart."""
    monkeypatch.setattr(cuda, "_library_paths", lambda: [library])
    monkeypatch.setattr(gpu, "_DRIVER", library)
    monkeypatch.setattr(gpu, "_maps", lambda: "")
    monkeypatch.setattr(cuda, "_context", gpu.Context())
    loaded = ctypes.CDLL(library)
    loaded.cudaDeviceReset()
    assert loaded.live_objects() == 0
    yield loaded
    assert loaded.live_objects() == 0


@pytest.fixture(params=["libcudart", "pycuda"])
def opened(request):
    """The GPU, opened each way."""
    request.getfixturevalue("cudart" if request.param == "libcudart" else "pycuda")
    opened = open_cuda()
    assert isinstance(opened, RuntimeCuda if request.param == "libcudart" else PyCuda)
    yield opened
    opened.close()


@pytest.fixture
def opened_by_cudart(cudart):
    """The GPU through libcudart, and the stand-in, which counts what is not freed."""
    opened = RuntimeCuda()
    yield opened, cudart
    opened.close()


def test_the_device_is_described(opened):
    assert opened.device == Device(GPU, (8, 7), 8 << 30, 5 << 30, True)
    assert opened.stream


def test_numbers_go_to_the_gpu_and_come_back(opened):
    given, back = opened.pinned((2, 3)), opened.pinned((2, 3))
    address = opened.allocate(given.nbytes)
    given[...] = np.arange(6).reshape(2, 3)
    opened.mark(0)
    opened.upload(address, given)
    opened.mark(1)
    opened.download(back, address)
    opened.synchronize()
    assert back.tolist() == given.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert opened.elapsed_ms(0, 1) == 0.25


def test_all_is_freed_once(cudart):
    opened = RuntimeCuda()
    opened.pinned((1,))
    opened.allocate(1)
    # With a stream and four marks.
    assert cudart.live_objects() == 7
    opened.close()
    opened.close()


def test_pycudas_context_is_released_once_and_is_current_only_in_calls(pycuda):
    opened = open_cuda()
    assert not pycuda.stack
    opened.close()
    opened.close()
    assert pycuda.detached == 1


def test_pycudas_errors_become_ours_with_the_remedy(pycuda):
    opened = open_cuda()
    with pytest.raises(BackendError, match=r"pycuda: cuMemAlloc failed: out of memory; the GPU's memory is full"):
        opened.allocate(2 << 20)
    assert not pycuda.stack
    opened.close()


def test_libcudart_replaces_a_pycuda_that_does_not_work(cudart, pycuda, monkeypatch):
    def init():
        raise pycuda.Error("cuInit failed: unknown error")

    monkeypatch.setattr(pycuda, "init", init)
    opened = open_cuda()
    assert isinstance(opened, RuntimeCuda)
    opened.close()


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [
        (
            "cudaGetDeviceCount 35",
            "cudaGetDeviceCount failed: .* 35.; .*older than this CUDA: install or update the driver",
        ),
        ("cudaGetDeviceCount 100", "no NVIDIA GPU can be used here"),
        ("cudaGetDeviceCount 803", "reboot"),
        ("cudaGetDeviceProperties 999", "cudaGetDeviceProperties failed: as it was told .CUDA error 999.*--backend"),
        ("cudaDeviceGetAttribute 1", "cudaDeviceGetAttribute failed"),
        ("cudaMemGetInfo 1", "cudaMemGetInfo failed"),
        ("cudaStreamCreate 2", "cudaStreamCreate failed: out of memory"),
        ("cudaEventCreate 2", "cudaEventCreate failed: out of memory"),
    ],
)
def test_a_gpu_that_cannot_be_opened_is_an_error_with_the_remedy_and_leaves_nothing(
    cudart, monkeypatch, failure, remedy
):
    monkeypatch.setenv("FAIL_CUDA", failure)
    with pytest.raises(BackendError, match=remedy):
        open_cuda()


@pytest.mark.parametrize(
    ("failure", "call"),
    [
        ("cudaMalloc 2", lambda opened, array: opened.allocate(1)),
        ("cudaMallocHost 2", lambda opened, array: opened.pinned((1,))),
        ("cudaMemcpyAsync 2", lambda opened, array: opened.upload(array.ctypes.data, array)),
        ("cudaEventRecord 2", lambda opened, array: opened.mark(0)),
        ("cudaEventElapsedTime 2", lambda opened, array: opened.elapsed_ms(0, 1)),
        ("cudaStreamSynchronize 2", lambda opened, array: opened.synchronize()),
    ],
)
def test_every_return_code_is_checked(cudart, monkeypatch, failure, call):
    opened = RuntimeCuda()
    array = opened.pinned((1,))
    monkeypatch.setenv("FAIL_CUDA", failure)
    with pytest.raises(
        BackendError, match=failure.split()[0] + " failed: out of memory .CUDA error 2.; the GPU's memory is full"
    ):
        call(opened, array)
    opened.close()


def test_no_libcudart_is_an_error_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(cuda, "_library_paths", lambda: ["libnothing-of-that-name.so"])
    with pytest.raises(
        BackendError, match=r"libcudart, CUDA's runtime library, was not found; install it: on a Jetson"
    ):
        RuntimeCuda()


def test_libcudart_is_found_where_pip_puts_it(monkeypatch, tmp_path):
    folder = tmp_path / "nvidia" / "cuda_runtime" / "lib"
    folder.mkdir(parents=True)
    (folder / "libcudart.so.12").write_bytes(b"")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert os.path.join(str(folder), "libcudart.so.12") in list(cuda._library_paths())


def test_work_that_is_refused_leaves_no_graph(opened_by_cudart):
    before = opened_by_cudart[1].live_objects()
    with pytest.raises(BackendError, match="the work was refused"):
        opened_by_cudart[0].record(lambda: False)
    assert opened_by_cudart[1].live_objects() == before


def test_a_graph_is_freed_once(opened_by_cudart):
    before = opened_by_cudart[1].live_objects()
    graph = opened_by_cudart[0].record(lambda: True)
    assert opened_by_cudart[1].live_objects() == before + 1
    graph.close()
    graph.close()
    assert opened_by_cudart[1].live_objects() == before


def test_pycuda_records_by_libcudart_and_without_it_says_so(pycuda, library, monkeypatch):
    monkeypatch.setattr(cuda, "_library_paths", lambda: [library])
    opened = open_cuda()
    opened.record(lambda: True).close()
    monkeypatch.setattr(cuda, "_library_paths", lambda: ["libnothing-of-that-name.so"])
    with pytest.raises(BackendError, match="libcudart, CUDA's runtime library, was not found"):
        opened.record(lambda: True)
    assert not pycuda.stack
    opened.close()


def test_a_gpu_is_described_without_a_context(cudart, monkeypatch):
    described = find_device()
    assert described[:2] == (GPU, (8, 7))
    # What a board's processor and GPU share is what Linux says: the driver would leave out what disk caches give back.
    assert (described.total_bytes, described.integrated) == (memory_bytes()[0], True)
    assert 0 < described.free_bytes <= described.total_bytes
    monkeypatch.setenv("DISCRETE", "1")
    assert find_device() == Device(GPU, (8, 7), 6 << 30, 6 << 30, False)
    assert not cudart.has_context()
    open_cuda().close()
    assert cudart.has_context()


def test_a_gpu_is_described_by_pycuda_where_there_is_no_libcudart(pycuda, monkeypatch):
    monkeypatch.setattr(cuda, "_library_paths", lambda: ["libnothing-of-that-name.so"])
    assert find_device()[:2] == (GPU, (8, 7))
    assert pycuda.contexts == 0


def test_without_a_gpu_the_description_is_an_error_with_the_remedy(cudart, monkeypatch):
    monkeypatch.setenv("FAIL_CUDA", "cudaGetDeviceCount 100")
    with pytest.raises(BackendError, match="no NVIDIA GPU can be used here"):
        find_device()


def test_a_context_is_destroyed_when_all_its_users_are_closed(cudart):
    first, second = open_cuda(), open_cuda()
    before = cudart.resets_asked_for()
    first.close()
    first.close()
    assert not release_cuda()
    second.close()
    assert release_cuda()
    assert (cudart.has_context(), cudart.resets_asked_for()) == (0, before + 1)
    assert not release_cuda()
    # Whoever opens it next makes another.
    open_cuda().close()
    assert cudart.has_context()
    assert release_cuda()


def test_a_context_of_another_library_is_never_reset(cudart, monkeypatch):
    cudart.cudaMemGetInfo(ctypes.byref(ctypes.c_size_t()), ctypes.byref(ctypes.c_size_t()))
    open_cuda().close()
    assert not release_cuda()
    assert cudart.has_context()


@pytest.mark.parametrize(
    "mapped", ["/usr/lib/libtorch_cuda.so", "/site-packages/onnxruntime/capi/libonnxruntime_providers_cuda.so"]
)
def test_a_context_is_not_reset_while_another_library_may_use_it(cudart, monkeypatch, mapped):
    open_cuda().close()
    monkeypatch.setattr(gpu, "_maps", lambda: f"7f00-7f01 r-xp 00000000 08:01 5 {mapped}\n")
    assert not release_cuda()


def test_if_the_driver_does_not_report_contexts_they_are_kept(cudart, monkeypatch):
    monkeypatch.setattr(gpu, "_DRIVER", "libnothing-of-that-name.so")
    open_cuda().close()
    assert not release_cuda()


def test_a_reset_that_fails_is_a_warning(cudart, monkeypatch, caplog):
    open_cuda().close()
    monkeypatch.setenv("FAIL_CUDA", "cudaDeviceReset 999")
    assert not release_cuda()
    assert "CUDA stays open: cudaDeviceReset failed" in caplog.text


def test_the_mapped_files_are_read_from_linux():
    assert os.path.basename(sys.executable)[:6] in gpu._maps()


@pytest.mark.parametrize("kind", ["libcudart", "pycuda"])
def test_a_boards_report_copies_numbers_there_and_back_by_each_library(kind, request, monkeypatch):
    monkeypatch.setattr(parts, "COPIED_BYTES", 1 << 12)  # the stand-ins have little memory
    request.getfixturevalue("cudart" if kind == "libcudart" else "pycuda")
    found = parts.cuda_memory(kind)
    assert found["equal"]
    assert found["gpu"] == GPU
    assert set(found) >= {"to_gpu_gb_per_s", "from_gpu_gb_per_s", "total_mb", "integrated"}
