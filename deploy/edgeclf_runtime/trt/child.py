"""The building process: makes one TensorRT engine and tells how far it is.

Started by ``trt/parent.py``.  It is a process of its own because a build can be killed for memory,
and TensorRT aborts on some networks; the program that needs the engine goes on.  When its
parent goes, it goes.

The parent writes a Request as a line of JSON to stdin, and keeps stdin open.  What comes back
over the pipe: lines of JSON, ``{"phase": name, "step": n, "steps": n}`` where TensorRT tells,
and at last ``{"done": facts}`` or ``{"error": reason, "lasting": whether it would be the same again}``.
"""

import contextlib
import json
import os
import sys
import threading
import time
from typing import Any, Dict, NamedTuple, Optional, Tuple

from ..errors import BackendError, EdgeclfError, OutputError
from ..files.outputs import new_file
from ..files.read import read_bytes
from .libraries import leave_out, used_by
from .network import make_logger, read_network, refusal
from .versions import has, load_tensorrt, version_of

_TELL_EVERY_S = 0.5
_MOST_TIMING_BYTES = 64 << 20


class Request(NamedTuple):
    """An engine to be built.

    source      the ONNX file
    source_sha256
                its hash: the file is compared when it is read
    plan        where the engine is written
    strongly_typed
                whether the file's own types count
    flags       of BuilderFlag, where precision is chosen by flags: "FP16", "INT8"
    exact       no TF32, which rounds more than the golden images of an FP32 model allow
    batches     smallest, usual and largest batch
    lean        without cuBLAS and cuDNN, unless it fails without them
    timing      the timing cache's file, or None
    dla         the DLA's core, or None
    calibration, calibration_sha256
                what a calibrator takes its ranges from, see trt/calibrator.py, and the hash of it; or None
    preprocessing
                the fields of the bundle's Preprocessing, for images to calibrate with
    """

    source: str
    source_sha256: str
    plan: str
    strongly_typed: bool
    flags: Tuple[str, ...]
    exact: bool
    batches: Tuple[int, int, int]
    workspace_bytes: int
    optimization_level: int
    lean: bool = False
    timing: Optional[str] = None
    dla: Optional[int] = None
    calibration: Optional[str] = None
    calibration_sha256: Optional[str] = None
    preprocessing: Tuple[Any, ...] = ()
    version_compatible: bool = False
    hardware_compatible: bool = False


def main(link_handle):
    """Build what stdin asks for."""
    link = os.fdopen(link_handle, "w")
    lock = threading.Lock()

    def send(message):
        with lock, contextlib.suppress(OSError):
            link.write(json.dumps(message) + "\n")
            link.flush()

    request = Request(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Where memory runs out, this process is to be killed and not the one that classifies.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
        stream.write("1000")
    try:
        send({"done": build(request, send)})
    except EdgeclfError as error:
        send({"error": str(error), "lasting": isinstance(error, BackendError)})
    except Exception as error:  # TensorRT's bindings raise what they like
        send({"error": "TensorRT failed: {!r}".format(error), "lasting": False})


def _end_with_parent():
    sys.stdin.read()
    os._exit(1)


def build(request, send):
    """Build an engine and write it to ``request.plan``; ``send`` takes the messages about its progress.

    Returns facts about it.  Raises BackendError with TensorRT's words, or OutputError.
    """
    trt = load_tensorrt()
    version, logger = version_of(trt), make_logger(trt)
    builder = trt.Builder(logger)
    read = read_network(trt, builder, logger, request)
    network = read.network
    config = builder.create_builder_config()
    _configure(trt, version, config, request)
    if request.dla is not None:
        _use_dla(trt, builder, config, request.dla)
    profile = _add_profile(builder, network, config, request, logger)
    timing = _read_timing(config, request.timing)
    if has(version, "progress"):
        config.progress_monitor = _make_monitor(trt, send)
    start = time.monotonic()
    plan = _build_plan(trt, version, builder, network, config, profile, logger, request)
    _write(request.plan, plan)
    if timing:
        _write_timing(config, request.timing)
    return {
        "build_s": round(time.monotonic() - start, 1),
        "network_layers": network.num_layers,
        "bytes": plan.nbytes,
        "libraries": used_by(trt, version, config),
        "plugins": read.plugins,
    }


def _build_plan(trt, version, builder, network, config, profile, logger, request):
    """Return the engine, serialized; built once more with cuBLAS and cuDNN if TensorRT finds no way without them."""
    sources = leave_out(trt, version, config) if request.lean else None
    with _calibrated(trt, version, config, profile, request):
        plan = builder.build_serialized_network(network, config)
    if plan is None and sources is not None:
        del logger.errors[:]
        config.set_tactic_sources(sources)
        with _calibrated(trt, version, config, profile, request):
            plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(refusal(trt, request.source, logger.errors, logger))
    return plan


def _configure(trt, version, config, request):
    for flag in request.flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if request.exact:
        config.clear_flag(trt.BuilderFlag.TF32)
    if has(version, "memory pools"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    else:
        config.max_workspace_size = request.workspace_bytes
    if has(version, "optimization level"):
        config.builder_optimization_level = request.optimization_level
    if has(version, "inspector"):
        # So that the engine can tell what each layer computes in; it does not make it slower.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if request.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if request.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _use_dla(trt, builder, config, core):
    """Let the DLA run what it can, and the GPU the rest."""
    cores = builder.num_DLA_cores
    if core >= cores:
        raise BackendError(
            "TensorRT {} finds {} here, --dla {} asked for one more; {}".format(
                trt.__version__,
                "{} DLA cores".format(cores) if cores else "no DLA",
                core,
                "they are numbered from 0" if cores else "Xavier and Orin have them; leave out --dla",
            )
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


@contextlib.contextmanager
def _calibrated(trt, version, config, profile, request):
    """Give the build its ranges where a calibrator is asked for; raises what went wrong in it."""
    if request.calibration is None:
        yield
        return
    from .calibrator import data_sha256, make_calibrator

    if data_sha256(request.calibration) != request.calibration_sha256:
        raise BackendError("{} was changed meanwhile; start the build again".format(request.calibration))
    calibrator = make_calibrator(trt, version, request.calibration, request.preprocessing)
    config.int8_calibrator = calibrator
    config.set_calibration_profile(profile)
    try:
        yield
    finally:
        calibrator.close()
    if calibrator.error:
        raise calibrator.error


def _add_profile(builder, network, config, request, logger):
    """Allow batches of every size that was asked for; what the profile gets wrong, the build says."""
    image = network.get_input(0)
    rest = tuple(image.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, *[(batch,) + rest for batch in request.batches])
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(
            "TensorRT refuses batches of {} (smallest, usual, largest) for {}: {}".format(
                list(request.batches), request.source, "; ".join(logger.errors)
            )
        )
    return profile


def _read_timing(config, path):
    """Let the build know the timings of earlier ones; a file that TensorRT does not take is as good as none."""
    if path is None:
        return False
    data = b""
    with contextlib.suppress(OSError, ValueError):
        data = read_bytes(path, _MOST_TIMING_BYTES)
    for known in (data, b""):
        cache = config.create_timing_cache(known)
        if cache is not None and config.set_timing_cache(cache, False):
            return True
    return False


def _write_timing(config, path):
    # A convenience: without it the next build takes longer.
    with contextlib.suppress(OSError, OutputError), new_file(path, overwrite=True) as work:
        _write(work, config.get_timing_cache().serialize())


def _write(path, data):
    try:
        with open(path, "wb") as stream:
            stream.write(data)
    except OSError as error:
        raise OutputError(
            "{} cannot be written, {} bytes ({}); free some space, or choose another folder by XDG_CACHE_HOME".format(
                path, data.nbytes, error.strerror
            )
        )


def _make_monitor(trt, send):
    base: Any = trt.IProgressMonitor

    class Monitor(base):
        def __init__(self):
            base.__init__(self)
            self._steps: Dict[str, Any] = {}
            self._next = 0.0

        def phase_start(self, phase, parent, steps):
            self._steps[phase] = steps
            self._tell(phase, 0)

        def phase_finish(self, phase):
            self._steps.pop(phase, None)

        def step_complete(self, phase, step):
            self._tell(phase, step + 1)
            return True

        def _tell(self, phase, step):
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + _TELL_EVERY_S
                send({"phase": phase, "step": step, "steps": self._steps.get(phase)})

    return Monitor()
