"""Calls of CUDA's runtime library: each return code checked, and a graph of what a stream was given.

Knows nothing of where the library is.  Codes: CUDA Runtime API, 10.2 to 13,
https://docs.nvidia.com/cuda/cuda-runtime-api.
"""

import ctypes

from ..errors import BackendError

# cudaStreamCaptureModeThreadLocal: what other threads do meanwhile does no harm.
_THREAD_LOCAL = 1
_NO_GPU = "no NVIDIA GPU can be used here: see what nvidia-smi says (on a Jetson: tegrastats), and in a container start it with --gpus all or --runtime nvidia"
_OLD_DRIVER = "there is no NVIDIA driver, or it is older than this CUDA: install or update the driver, or use another backend with --backend"
MEMORY = "the GPU's memory is full: end what else uses it (on a Jetson it is the board's own memory), or use another backend with --backend"
_REBOOT = "the driver that is loaded is not the one that is installed: reboot"
# cudaError_t: what to do about it.  38 is 100's number before CUDA 10.1.
_REMEDIES = {2: MEMORY, 3: _OLD_DRIVER, 35: _OLD_DRIVER, 38: _NO_GPU, 100: _NO_GPU, 101: _NO_GPU, 803: _REBOOT}
ELSE = "if it stays, reboot, or use another backend with --backend"


def check(library, function, *arguments):
    """Call a function by name; raise BackendError with the remedy where it fails."""
    code = getattr(library, function)(*arguments)
    if code:
        raise BackendError(failure(library, function, code))


def failure(library, function, code):
    """Return CUDA's words for a function's error, and what to do about it."""
    words = (library.cudaGetErrorString(code) or b"no reason was given").decode("utf-8", "replace")
    return "{} failed: {} (CUDA error {}); {}".format(function, words, code, _REMEDIES.get(code, ELSE))


class Graph:
    """Work of a stream that was recorded once and is begun again by a single call.

    Raises BackendError where what ``work()`` does cannot be recorded, or it returns False.
    """

    def __init__(self, library, stream, work):
        self._library, self._stream, self._handle = library, ctypes.c_void_p(stream), 0
        try:
            self._handle = self._record(work)
        except BackendError:
            # Else whoever asks for the last error next, as TensorRT may, takes this one for its own.
            library.cudaGetLastError()
            raise

    def _record(self, work):
        library, graph, handle = self._library, ctypes.c_void_p(), ctypes.c_void_p()
        check(library, "cudaStreamBeginCapture", self._stream, _THREAD_LOCAL)
        try:
            begun = work()
        finally:
            code = library.cudaStreamEndCapture(self._stream, ctypes.byref(graph))
        try:
            if code or not begun:
                raise BackendError(failure(library, "cudaStreamEndCapture", code) if code else "the work was refused")
            # From CUDA 12 on the third parameter is a word of flags and the last; 0 means the same.
            none = (None, None, ctypes.c_size_t(0))
            check(library, "cudaGraphInstantiate", ctypes.byref(handle), graph, *none)
        finally:
            if graph:
                library.cudaGraphDestroy(graph)
        return handle.value or 0

    def launch(self):
        """Begin the work."""
        check(self._library, "cudaGraphLaunch", ctypes.c_void_p(self._handle), self._stream)

    def close(self):
        """Free it; a second call does nothing."""
        handle, self._handle = self._handle, 0
        if handle:
            self._library.cudaGraphExecDestroy(ctypes.c_void_p(handle))
