"""OpenVINO, 2023.1 and later, on the CPU: faster than ONNX Runtime with some INT8 networks on x86, such as ResNet-18.

It is tried after ONNX Runtime, which is faster with others; the first start measures both (``classify/tuning``).
Source: https://docs.openvino.ai, "Performance Hints and Thread Scheduling", "Precision Control".
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Dict, Iterator, List, Optional, Tuple, Union

from ..bundle.model_file import model_bytes
from ..device.child_process import start_child
from ..device.machine import processor, thread_limit
from ..device.remedies import install, pip
from ..errors import BackendError, OutputError
from ..files.outputs import OTHER_CACHE, new_file
from ..files.read import sha256_bytes
from ..files.user_folders import cache_folder
from .base import FEATURES, Outputs, Runner, importing, installed_version, joined, output_order

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from openvino import CompiledModel, Core

    from .base import ModelPath

# A processor with BF16 or FP16 would compute "f32" files in those, and the logits would differ from the golden images.
_OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
_TELEMETRY = "openvino_telemetry"
_OLDEST, OLDEST_PYTHON = "2023.1", (3, 8)
# In every file with Q/DQ pairs.
_QUANTIZED = b"QuantizeLinear"
_hiding = threading.Lock()
# Not empty while this process may crash.
_expendable: List[bool] = []
_log = logging.getLogger(__name__)


def version() -> str:
    """Return OpenVINO's version."""
    return installed_version("openvino", "openvino")


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Hide the package ``openvino_telemetry`` while the block imports OpenVINO, or another package that would report.

    OpenVINO contacts a Google address as soon as it is imported, and writes an id to ~/intel; no environment variable stops
    it, and its switch is a file in the user's home.  Without the package it uses a stub.
    """
    with _hiding:
        found = {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] == _TELEMETRY}
        for name in found:
            del sys.modules[name]
        # Makes Python refuse to import the module.
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.modules.pop(_TELEMETRY, None)
            sys.modules.update(found)


@contextlib.contextmanager
def expendable() -> Iterator[None]:
    """Within the block, check quantized files in this process, which may crash: it is a child that measures backends."""
    _expendable.append(True)
    try:
        yield
    finally:
        _expendable.pop()


def check_python(python: Tuple[int, ...]) -> None:
    """Raise BackendError for a Python version, (3, 6), for which pip has only older versions of OpenVINO."""
    if python < OLDEST_PYTHON:
        raise BackendError(
            "OpenVINO {} or later is needed, which supports Python {}.{} and later, not {}.{}: use another backend".format(
                _OLDEST, *OLDEST_PYTHON + tuple(python)
            )
        )


def _core(openvino: "ModuleType") -> "Core":
    if not hasattr(openvino, "Core"):  # before 2023.1 it was elsewhere
        check_python(sys.version_info[:2])
        newer = pip("'openvino>={}'".format(_OLDEST))
        found = "OpenVINO {}".format(getattr(openvino, "__version__", "")).rstrip()  # old versions may lack it
        raise BackendError("{} is too old; {} or later is needed: {}".format(found, _OLDEST, newer))
    with importing("OpenVINO", lambda: install("openvino")):
        return openvino.Core()


def import_openvino() -> "ModuleType":
    """Return the module openvino, imported without its telemetry; BackendError if it is missing."""
    with importing(OpenVinoRunner.title, lambda: install("openvino")), without_telemetry():
        try:
            import openvino
        except ModuleNotFoundError:
            check_python(sys.version_info[:2])
            raise
    return openvino


def compiled(core: "Core", data: Union[bytes, str], threads: Optional[int], **more: object) -> "CompiledModel":
    """Return a model, an ONNX file's bytes or a path, compiled for the processor, for one image at a time; ``more``: OpenVINO's options."""
    options: Dict[str, object] = dict(_OPTIONS, **more)
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    model = core.read_model(data)
    # A fixed size is faster.
    model.reshape([1] + [size.get_length() for size in list(model.inputs[0].partial_shape)[1:]])
    return core.compile_model(model, "CPU", options)


def _check_once(data: bytes, threads: Optional[int]) -> None:
    """Check a model in a child, unless it passed before with this OpenVINO, processor and number of threads.

    Only a pass is remembered, in ``$XDG_CACHE_HOME/edgeclf/openvino``: a crash may have been due to something that passes, such as a lack of memory.
    """
    path = _pass(data, threads)
    if path is None or not os.path.isfile(path):
        _check_in_child(data, threads)
        _remember_pass(path)


def _remember_pass(path: Optional[str]) -> None:
    if path is None or os.path.isfile(path):
        return
    try:
        with new_file(path, overwrite=True, elsewhere=OTHER_CACHE) as work, open(work, "w", encoding="utf-8") as stream:
            stream.write("OpenVINO {} on {}\n".format(version(), processor()))
    except (OSError, OutputError) as error:
        _log.warning("OpenVINO's check of this file cannot be remembered (%s); every start repeats it", error)


def _pass(data: bytes, threads: Optional[int]) -> Optional[str]:
    """Return the path of the file that stands for a passed check, or None if this user cannot keep any."""
    cache = cache_folder()
    key = "\n".join((sha256_bytes(data), version(), processor(), str(threads or 0)))
    return None if cache is None else os.path.join(cache, "openvino", sha256_bytes(key.encode("utf-8")))


def _check_in_child(data: bytes, threads: Optional[int]) -> None:
    """Raise BackendError if compiling a model or running it once kills a process, as some quantized files do."""
    request = str(threads or 0).encode() + b"\n" + data
    child = start_child("runners.openvino", stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL)
    try:
        child.communicate(request)
    finally:
        child.kill()
        child.wait()
    # Other errors are raised again here, with their reasons.
    if child.returncode < 0:
        raise BackendError(
            "OpenVINO {} crashes with this file ({}); another version may not: use another backend until then".format(
                version(), signal.Signals(-child.returncode).name
            )
        )


def _order(model: "CompiledModel") -> List[int]:
    # An output has the names of every tensor that it is the same as.
    names = [FEATURES if FEATURES in output.get_names() else "" for output in model.outputs]
    return output_order(names)


def main() -> None:
    """Compile the model on stdin, after a line with the number of threads, and run it once; in the child."""
    threads, _, data = sys.stdin.buffer.read().partition(b"\n")
    _run_once(compiled(_core(import_openvino()), data, int(threads) or None))


def _run_once(model: "CompiledModel") -> None:
    import numpy as np

    model([np.zeros([size.get_length() for size in list(model.inputs[0].partial_shape)], np.float32)])


class OpenVinoRunner(Runner):
    """A model on OpenVINO's CPU plug-in.

    threads     number of threads for an inference; None: OpenVINO decides, within thread_limit()
    """

    backend = "openvino"
    title = "OpenVINO"

    def _load(self, model_path: "ModelPath", threads: Optional[int]) -> None:
        data, threads = model_bytes(model_path), threads or thread_limit()
        openvino = import_openvino()
        core = _core(openvino)
        self.version = version()
        quantized = _QUANTIZED in data
        if quantized and not _expendable:
            _check_once(data, threads)
        self._model: "CompiledModel" = compiled(core, data, threads)
        self._outputs = _order(self._model)
        if quantized and _expendable:
            _run_once(self._model)
            _remember_pass(_pass(data, threads))

    def _infer(self, batch: "np.ndarray") -> Outputs:
        return joined([self._infer_one(batch[i : i + 1]) for i in range(len(batch))])

    def _infer_one(self, image: "np.ndarray") -> Outputs:
        # Copies: the next inference writes into the same memory.
        found = self._model([image])
        return Outputs(*[found[index].copy() for index in self._outputs])

    def _free(self) -> None:
        self._model = None
