"""Calls CUDA's runtime library with every return code checked, and records a stream's work as a graph.

Codes: CUDA Runtime API, 10.2 to 13, https://docs.nvidia.com/cuda/cuda-runtime-api.
"""

import ctypes
from typing import Callable

from ..errors import BackendError

# cudaStreamCaptureModeThreadLocal: other threads' calls do not disturb the recording.
_THREAD_LOCAL = 1
_NO_GPU = "no NVIDIA GPU can be used here: see what nvidia-smi reports (on a Jetson: tegrastats), and start a container with --gpus all or --runtime nvidia"
_OLD_DRIVER = "there is no NVIDIA driver, or it is older than this CUDA: install or update the driver, or use another backend with --backend"
MEMORY = "the GPU's memory is full: end other programs that use it (on a Jetson it is the board's own memory), or use another backend with --backend"
_REBOOT = "the loaded driver is not the installed one: reboot"
# cudaError_t: what to do about it.  38 is 100's number before CUDA 10.1.
_REMEDIES = {2: MEMORY, 3: _OLD_DRIVER, 35: _OLD_DRIVER, 38: _NO_GPU, 100: _NO_GPU, 101: _NO_GPU, 803: _REBOOT}
ELSE = "if it happens again, reboot, or use another backend with --backend"


def check(library: "ctypes.CDLL", function: str, *arguments: object) -> None:
    """Call a function by name; raise BackendError with the remedy if it fails."""
    code = getattr(library, function)(*arguments)
    if code:
        raise BackendError(failure(library, function, code))


def failure(library: "ctypes.CDLL", function: str, code: int) -> str:
    """Return CUDA's message for a function's error code, and what to do about it."""
    words: str = (library.cudaGetErrorString(code) or b"no reason was given").decode("utf-8", "replace")
    return "{} failed: {} (CUDA error {}); {}".format(function, words, code, _REMEDIES.get(code, ELSE))


class Graph:
    """A stream's work, recorded once and repeated by a single call.

    work    starts the work on the stream; returns whether it could

    Raises BackendError if the work cannot be recorded or started.
    """

    def __init__(self, library: "ctypes.CDLL", stream: int, work: Callable[[], bool]) -> None:
        self._library, self._stream, self._handle = library, ctypes.c_void_p(stream), 0
        try:
            self._handle = self._record(work)
        except BackendError:
            # Clears the error: TensorRT, which may ask for the last error next, would take it for its own.
            library.cudaGetLastError()
            raise

    def _record(self, work: Callable[[], bool]) -> int:
        library, graph, handle = self._library, ctypes.c_void_p(), ctypes.c_void_p()
        check(library, "cudaStreamBeginCapture", self._stream, _THREAD_LOCAL)
        try:
            begun = work()
        finally:
            code = library.cudaStreamEndCapture(self._stream, ctypes.byref(graph))
        try:
            if code or not begun:
                raise BackendError(failure(library, "cudaStreamEndCapture", code) if code else "the work was refused")
            # From CUDA 12 on the third parameter is the last one and holds flags; 0 means the same.
            none = (None, None, ctypes.c_size_t(0))
            check(library, "cudaGraphInstantiate", ctypes.byref(handle), graph, *none)
        finally:
            if graph:
                library.cudaGraphDestroy(graph)
        return handle.value or 0

    def launch(self) -> None:
        """Start the work."""
        check(self._library, "cudaGraphLaunch", ctypes.c_void_p(self._handle), self._stream)

    def close(self) -> None:
        """Free the graph; a second call does nothing."""
        handle, self._handle = self._handle, 0
        if handle:
            self._library.cudaGraphExecDestroy(ctypes.c_void_p(handle))
