"""The GPU's facts, asked for without opening it: a CUDA context takes a Jetson Nano 100 MB or more of its 4 GB.

Counting devices, their properties and attributes need none; the first call that does, cudaMemGetInfo or
cudaStreamCreate, makes one that stays until the process ends or cudaDeviceReset is called.
Signatures and codes: CUDA Runtime API, 10.2 to 13, https://docs.nvidia.com/cuda/cuda-runtime-api.
"""

import ctypes
import struct
from typing import NamedTuple, Tuple

from ..device.machine import memory_bytes
from .cudart import check

_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # cudaDeviceAttr
_DRIVER = "libcuda.so.1"
# cudaDeviceProp begins with the name, 256 bytes, in every version; totalGlobalMem, a size_t, follows the name, 16 bytes
# of UUID, 8 of LUID and a mask of 4.  The longest so far has 1,008 bytes in all.
_NAME_BYTES, _TOTAL_AT, _PROPERTIES_BYTES = 256, 288, 8192
# Libraries that use CUDA by themselves, as /proc/self/maps names them: what they hold must not be taken from them.
_OTHERS = ("cupy", "jaxlib", "libtorch_cuda", "numba", "onnxruntime_providers_", "pycuda", "tensorflow", "tensorrt_rtx")


class Device(NamedTuple):
    """A GPU.

    capability  compute capability, as (8, 7)
    free_bytes  memory for whoever comes next; as much as total_bytes if the GPU was not asked for it
    integrated  whether it shares the processor's memory, as a Jetson's does
    """

    name: str
    capability: Tuple[int, int]
    total_bytes: int
    free_bytes: int
    integrated: bool


def describe(library):
    """Return the Device of the first GPU, by libcudart; no context is made."""
    properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
    check(library, "cudaGetDeviceProperties", properties, 0)
    name = properties.raw[:_NAME_BYTES].split(b"\0")[0].decode("utf-8", "replace")
    (total,) = struct.unpack_from("@N", properties.raw, _TOTAL_AT)
    major, minor, integrated = (_attribute(library, number) for number in (_MAJOR, _MINOR, _INTEGRATED))
    return with_memory(name, (major, minor), total, bool(integrated))


def with_memory(name, capability, total, integrated):
    """Return a Device; if it shares the processor's memory, what Linux says of that counts, disk caches included."""
    total, free = (integrated and memory_bytes()) or (total, total)
    return Device(name, capability, total, free, integrated)


def _attribute(library, number):
    value = ctypes.c_int()
    check(library, "cudaDeviceGetAttribute", ctypes.byref(value), number, 0)
    return value.value


class Context:
    """Who uses this process's CUDA context, which lasts until the process ends or somebody resets it."""

    def __init__(self):
        self._users, self._ours = 0, False

    def enter(self):
        """Note a user of this package's, before the first call that makes a context."""
        if not self._users and not self._ours:
            self._ours = is_active() is False
        self._users += 1

    def leave(self):
        """Note that a user has gone."""
        self._users -= 1

    def release(self, load):
        """Destroy the context if this package made it and nobody uses it; what comes next makes another.

        load    returns libcudart

        Returns whether it did.  Another library's objects would be destroyed with it, so it stays if one is loaded.
        """
        if self._users or not self._ours or any(name in _maps() for name in _OTHERS):
            return False
        check(load(), "cudaDeviceReset")
        self._ours = False
        return True


def is_active():
    """Whether this process has a context on the first GPU, or None if the driver does not say."""
    try:
        driver = ctypes.CDLL(_DRIVER)
        flags, active = ctypes.c_uint(), ctypes.c_int()
        failed = driver.cuInit(0) or driver.cuDevicePrimaryCtxGetState(0, ctypes.byref(flags), ctypes.byref(active))
    except (OSError, AttributeError):
        return None
    return None if failed else bool(active.value)


def _maps():
    """Return the paths of what is mapped into this process, as a text."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as stream:
        return stream.read()
