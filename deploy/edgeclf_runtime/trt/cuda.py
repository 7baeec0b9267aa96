"""The GPU's memory and one stream behind a small interface: with pycuda if it is installed, otherwise with libcudart.

libcudart comes with TensorRT and needs no compiler: ctypes calls it.  pycuda is rarely installed, because building it on a
board takes nvcc and minutes.

Signatures and codes: CUDA Runtime API, 10.2 to 13, https://docs.nvidia.com/cuda/cuda-runtime-api.
"""

import ctypes
import glob
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Sequence, Tuple, Union

from ..device.remedies import pip
from ..errors import BackendError
from .cudart import ELSE, MEMORY, Graph, check, failure
from .gpu import Context, Device, describe, with_memory

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np

_SONAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2", "libcudart.so")
_FOLDERS = (
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/*/lib",
    "/usr/local/cuda-*/lib64",
    "/usr/local/cuda-*/lib",
)
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_MARKS = 4
_log = logging.getLogger(__name__)
_context = Context()


def find_device() -> Device:
    """Return the first GPU's Device without opening it; raises BackendError with the remedy.

    No CUDA context is made: the process that builds an engine needs that memory.
    """
    try:
        return describe(_load())
    except BackendError:
        try:
            import pycuda.driver as driver

            driver.init()
            gpu = driver.Device(0)
            integrated = bool(gpu.get_attribute(driver.device_attribute.INTEGRATED))
            return with_memory(gpu.name(), tuple(gpu.compute_capability()), gpu.total_memory(), integrated)
        except Exception as error:  # pycuda's own errors, and those of its loader
            _log.debug("pycuda finds no GPU: %s", error)
        raise


def release_cuda() -> bool:
    """Free the memory of this process's CUDA context if possible; returns whether it was freed."""
    try:
        return _context.release(_load)
    except BackendError as error:
        _log.warning("CUDA stays open: %s", error)
        return False


def open_cuda() -> "Union[RuntimeCuda, PyCuda]":
    """Open the first GPU: a PyCuda or a RuntimeCuda, which have the same methods.  Raises BackendError with the remedy."""
    try:
        return PyCuda()
    except ImportError:
        return RuntimeCuda()
    except Exception as error:  # pycuda's own errors, and those of its loader
        _log.info("pycuda does not work here (%s); libcudart is used", error)
        return RuntimeCuda()


class RuntimeCuda:
    """The first GPU, through libcudart.

    device      the Device
    stream      the stream's handle

    Its addresses and arrays are valid until close().
    """

    def __init__(self) -> None:
        self._library = _load()
        self._frees: List[Tuple[str, int]] = []
        self._marks: List[int] = []
        self.stream = 0
        self._open = True
        _context.enter()
        try:
            self.device = self._describe()
            self.stream = self._create("cudaStreamCreate", "cudaStreamDestroy")
            self._marks = [self._create("cudaEventCreate", "cudaEventDestroy") for _ in range(_MARKS)]
        except BackendError:
            self.close()
            raise

    def _describe(self) -> Device:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return describe(self._library)._replace(total_bytes=total.value, free_bytes=free.value)

    def _create(self, function: str, free: str, *arguments: object) -> int:
        """Call a function that returns a pointer; close() passes it to the function ``free``."""
        pointer = ctypes.c_void_p()
        self._call(function, ctypes.byref(pointer), *arguments)
        handle = pointer.value or 0
        self._frees.append((free, handle))
        return handle

    def allocate(self, size: int) -> int:
        """Allocate bytes of the GPU's memory; returns their address."""
        return self._create("cudaMalloc", "cudaFree", ctypes.c_size_t(size))

    def pinned(self, shape: Sequence[int]) -> "np.ndarray":
        """Return an array, float32, in page-locked memory, which the GPU can read and write directly."""
        import numpy as np

        count = int(np.prod(shape))
        address = self._create("cudaMallocHost", "cudaFreeHost", ctypes.c_size_t(4 * count))
        memory: Any = (ctypes.c_float * count).from_address(address)
        return np.frombuffer(memory, np.float32).reshape(shape)

    def upload(self, address: int, array: "np.ndarray") -> None:
        """Start to copy an array of pinned() to the GPU."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE)

    def download(self, array: "np.ndarray", address: int) -> None:
        """Start to copy from the GPU to an array of pinned()."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST)

    def _copy(self, to: int, source: int, size: int, kind: int) -> None:
        pointers = (ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(size))
        self._call("cudaMemcpyAsync", *pointers, kind, ctypes.c_void_p(self.stream))

    def mark(self, index: int) -> None:
        """Record the time at which the stream gets here as mark 0, 1, 2 or 3."""
        self._call("cudaEventRecord", ctypes.c_void_p(self._marks[index]), ctypes.c_void_p(self.stream))

    def elapsed_ms(self, first: int, second: int) -> float:
        """Return the milliseconds between two marks; valid after synchronize()."""
        value = ctypes.c_float()
        marks = (ctypes.c_void_p(self._marks[first]), ctypes.c_void_p(self._marks[second]))
        self._call("cudaEventElapsedTime", ctypes.byref(value), *marks)
        return value.value

    def record(self, work: Callable[[], bool]) -> Graph:
        """Return a Graph of what ``work()`` starts on the stream, without running it.  Close it before close()."""
        return Graph(self._library, self.stream, work)

    def synchronize(self) -> None:
        """Wait until the stream has done all its work."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def close(self) -> None:
        """Free everything, in reverse order; a second call does nothing."""
        while self._frees:
            function, pointer = self._frees.pop()
            code = getattr(self._library, function)(ctypes.c_void_p(pointer))
            if code:
                _log.warning("%s", failure(self._library, function, code))
        if self._open:
            self._open = False
            _context.leave()

    def _call(self, function: str, *arguments: object) -> None:
        check(self._library, function, *arguments)


class PyCuda:
    """The first GPU, through pycuda; see RuntimeCuda."""

    def __init__(self) -> None:
        import pycuda.driver as driver

        driver.init()
        gpu = driver.Device(0)
        # TensorRT uses the same context.
        self._driver, self._context = driver, gpu.retain_primary_context()
        self._kept: List[Any] = []
        with self._current():
            free, total = driver.mem_get_info()
            integrated = bool(gpu.get_attribute(driver.device_attribute.INTEGRATED))
            self.device = Device(gpu.name(), tuple(gpu.compute_capability()), total, free, integrated)
            self._stream: Any = driver.Stream()
            self._marks: Any = [driver.Event() for _ in range(_MARKS)]
        self.stream: int = self._stream.handle

    def _current(self) -> "_Current":
        return _Current(self._driver, self._context)

    def allocate(self, size: int) -> int:
        with self._current():
            self._kept.append(self._driver.mem_alloc(size))
        return int(self._kept[-1])

    def pinned(self, shape: Sequence[int]) -> "np.ndarray":
        import numpy as np

        with self._current():
            array: "np.ndarray" = self._driver.pagelocked_empty(shape, np.float32)
        self._kept.append(array)
        return array

    def upload(self, address: int, array: "np.ndarray") -> None:
        with self._current():
            self._driver.memcpy_htod_async(address, array, self._stream)

    def download(self, array: "np.ndarray", address: int) -> None:
        with self._current():
            self._driver.memcpy_dtoh_async(array, address, self._stream)

    def mark(self, index: int) -> None:
        with self._current():
            self._marks[index].record(self._stream)

    def elapsed_ms(self, first: int, second: int) -> float:
        with self._current():
            return float(self._marks[first].time_till(self._marks[second]))

    def record(self, work: Callable[[], bool]) -> Graph:
        # pycuda itself has no graphs (2026.1).
        with self._current():
            return Graph(_load(), self.stream, work)

    def synchronize(self) -> None:
        with self._current():
            self._stream.synchronize()

    def close(self) -> None:
        if self._context is None:
            return
        with self._current():
            while self._kept:
                self._kept.pop()
            self._marks = self._stream = None
        self._context.detach()
        self._context = None


class _Current:
    """Makes a pycuda context current in this thread for a block, and turns pycuda's errors into BackendError."""

    def __init__(self, driver: "ModuleType", context: Any) -> None:
        self._driver, self._context = driver, context

    def __enter__(self) -> None:
        self._context.push()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._driver.Context.pop()
        if isinstance(error, self._driver.MemoryError):
            raise BackendError("pycuda: {}; {}".format(error, MEMORY))
        if isinstance(error, self._driver.Error):
            raise BackendError("pycuda: {}; {}".format(error, ELSE))


def _load() -> "ctypes.CDLL":
    """Return the first libcudart that finds a GPU; if none does, raise BackendError with the first one's error."""
    failures = []
    for path in _library_paths():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        try:
            library.cudaGetErrorString.restype = ctypes.c_char_p
            check(library, "cudaGetDeviceCount", ctypes.byref(ctypes.c_int()))
            return library
        except BackendError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    raise BackendError(
        "libcudart, CUDA's runtime library, was not found; install it: on a Jetson, sudo apt-get install nvidia-cuda; "
        "elsewhere, {}".format(pip("nvidia-cuda-runtime"))
    )


def _library_paths() -> Iterator[str]:
    """Yield the paths that libcudart may have: its name, where pip installs it, and where CUDA does."""
    for name in _SONAMES:
        yield name
    packages = [os.path.join(folder, "nvidia", "*", "lib") for folder in sys.path]
    for folder in (*packages, *_FOLDERS):
        for path in sorted(glob.glob(os.path.join(folder, "libcudart.so.*")), reverse=True):
            yield path
