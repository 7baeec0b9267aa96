"""The GPU's properties, read without a CUDA context, which takes 100 MB or more of a Jetson Nano's 4 GB.

The number of devices, their properties and their attributes need no context; the first call that does, cudaMemGetInfo or
cudaStreamCreate, makes one that stays until the process ends or cudaDeviceReset is called.
Signatures and codes: CUDA Runtime API, 10.2 to 13, https://docs.nvidia.com/cuda/cuda-runtime-api.
"""

import ctypes
import struct
from typing import Callable, NamedTuple, Optional, Tuple

from ..device.machine import memory_bytes
from .cudart import check

_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # cudaDeviceAttr
_DRIVER = "libcuda.so.1"
# cudaDeviceProp begins with the name, 256 bytes, in every version; then come 16 bytes of UUID, 8 of LUID, a mask of 4,
# and totalGlobalMem, a size_t.  The longest version so far has 1,008 bytes.
_NAME_BYTES, _TOTAL_AT, _PROPERTIES_BYTES = 256, 288, 8192
# Libraries that use CUDA themselves, as /proc/self/maps names them: their context must not be destroyed.
_OTHERS = ("cupy", "jaxlib", "libtorch_cuda", "numba", "onnxruntime_providers_", "pycuda", "tensorflow", "tensorrt_rtx")


# On a Nano, 4 GB, a build with a workspace of 1 GB is killed; this one passes.
SMALL_WORKSPACE = 256 << 20
_SMALL_BOARD_BYTES = 5 << 30
_LARGEST_WORKSPACE = 4 << 30
# No INT8 on Maxwell (Nano, 5.3), on Pascal except 6.1 (TX2 is 6.2), or on anything older.  Source: NVIDIA's "Hardware
# and Precision" table in TensorRT's support matrix.  TensorRT 8 aborts there on a Q/DQ file.
_LEAST_INT8, _EARLY_INT8 = (7, 0), (6, 1)
AMPERE = (8, 0)


class Device(NamedTuple):
    """A GPU.

    capability  compute capability, as (8, 7)
    total_bytes its memory
    free_bytes  its free memory; total_bytes if the GPU was not asked
    integrated  whether it shares the processor's memory, as a Jetson's does
    """

    name: str
    capability: Tuple[int, int]
    total_bytes: int
    free_bytes: int
    integrated: bool

    @property
    def has_int8(self) -> bool:
        """True if it computes in INT8."""
        return self.capability >= _LEAST_INT8 or self.capability == _EARLY_INT8

    @property
    def is_small(self) -> bool:
        """True if it is on a board that is short of memory, such as a Nano with 4 GB shared by processor and GPU."""
        return self.integrated and self.total_bytes <= _SMALL_BOARD_BYTES

    @property
    def workspace_bytes(self) -> int:
        """The memory for a build, if the user gives none."""
        if self.total_bytes <= _SMALL_BOARD_BYTES:
            return SMALL_WORKSPACE
        return max(SMALL_WORKSPACE, min(self.free_bytes // 4, _LARGEST_WORKSPACE))


def describe(library: "ctypes.CDLL") -> Device:
    """Return the Device of the first GPU, from libcudart; no context is made."""
    properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
    check(library, "cudaGetDeviceProperties", properties, 0)
    name = properties.raw[:_NAME_BYTES].split(b"\0")[0].decode("utf-8", "replace")
    (total,) = struct.unpack_from("@N", properties.raw, _TOTAL_AT)
    major, minor, integrated = (_attribute(library, number) for number in (_MAJOR, _MINOR, _INTEGRATED))
    return with_memory(name, (major, minor), total, bool(integrated))


def with_memory(name: str, capability: Tuple[int, int], total: int, integrated: bool) -> Device:
    """Return a Device; if it shares the processor's memory, the sizes are Linux's, with disk caches counted as free."""
    total, free = (integrated and memory_bytes()) or (total, total)
    return Device(name, capability, total, free, integrated)


def _attribute(library: "ctypes.CDLL", number: int) -> int:
    value = ctypes.c_int()
    check(library, "cudaDeviceGetAttribute", ctypes.byref(value), number, 0)
    return value.value


class Context:
    """Counts this package's users of the process's CUDA context, which lasts until the process ends or it is reset."""

    def __init__(self) -> None:
        self._users, self._ours = 0, False

    def enter(self) -> None:
        """Add a user, before the first call that makes a context."""
        if not self._users and not self._ours:
            self._ours = is_active() is False
        self._users += 1

    def leave(self) -> None:
        """Remove a user."""
        self._users -= 1

    def release(self, load: "Callable[[], ctypes.CDLL]") -> bool:
        """Destroy the context if this package made it and nobody uses it; the next user makes another.

        load    returns libcudart

        Returns whether it was destroyed.  The context stays if another library that uses CUDA is loaded, whose objects
        would be destroyed with it.
        """
        if self._users or not self._ours or any(name in _maps() for name in _OTHERS):
            return False
        check(load(), "cudaDeviceReset")
        self._ours = False
        return True


def is_active() -> Optional[bool]:
    """Return whether this process has a context on the first GPU; None if the driver does not answer."""
    try:
        driver = ctypes.CDLL(_DRIVER)
        flags, active = ctypes.c_uint(), ctypes.c_int()
        failed = driver.cuInit(0) or driver.cuDevicePrimaryCtxGetState(0, ctypes.byref(flags), ctypes.byref(active))
    except (OSError, AttributeError):
        return None
    return None if failed else bool(active.value)


def _maps() -> str:
    """Return the paths of the files that are mapped into this process, as one text."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as stream:
        return stream.read()
