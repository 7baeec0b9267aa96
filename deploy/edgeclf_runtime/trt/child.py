"""The building process: builds one TensorRT engine, and reports its progress.

Started by ``trt/parent.py``.  It is a separate process because a build can be killed for memory, and TensorRT aborts on
some networks; the program that needs the engine goes on.  It ends when its parent ends.

The parent writes an EngineSpec as a line of JSON to stdin, and keeps stdin open.  The answers over the pipe are lines of
JSON: ``{"phase": name, "step": n, "steps": n}`` if TensorRT reports progress, and at last ``{"done": facts}`` or
``{"error": reason, "lasting": whether the same would happen again}``.
"""

import contextlib
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Optional

from ..device.child_process import die_first
from ..errors import BackendError, EdgeclfError, OutputError
from ..files.outputs import new_file
from ..files.read import read_bytes
from ..files.schema import JsonObject
from .engine_spec import EngineSpec
from .libraries import leave_out, used_by
from .network import make_logger, read_network, refusal
from .versions import Version, has, load_tensorrt, version_of

if TYPE_CHECKING:
    from types import ModuleType

    from .network import Builder, BuilderConfig, HostMemory, Logger, NetworkDefinition, Profile

_REPORT_EVERY_S = 0.5
_MOST_TIMING_BYTES = 64 << 20
Send = Callable[[JsonObject], None]


def main(link_handle: int) -> None:
    """Build what stdin asks for."""
    link = os.fdopen(link_handle, "w")
    lock = threading.Lock()

    def send(message: JsonObject) -> None:
        with lock, contextlib.suppress(OSError):
            link.write(json.dumps(message) + "\n")
            link.flush()

    spec = EngineSpec.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    die_first()
    try:
        send({"done": build(spec, send)})
    except EdgeclfError as error:
        send({"error": str(error), "lasting": isinstance(error, BackendError)})
    except Exception as error:  # TensorRT's bindings may raise anything
        send({"error": "TensorRT failed: {!r}".format(error), "lasting": False})


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def build(spec: EngineSpec, send: Send) -> JsonObject:
    """Build an engine and write it to ``spec.plan``; ``send`` takes the messages about its progress.

    Returns facts about it.  Raises BackendError with TensorRT's words, or OutputError.
    """
    trt = load_tensorrt()
    version, logger = version_of(trt), make_logger(trt)
    builder: "Builder" = trt.Builder(logger)
    read = read_network(trt, builder, logger, spec)
    network = read.network
    config = builder.create_builder_config()
    _configure(trt, version, builder, config, spec)
    profile = _add_profile(builder, network, config, spec, logger)
    timing = _read_timing(config, spec.timing)
    if has(version, "progress"):
        config.progress_monitor = _make_monitor(trt, send)
    start = time.monotonic()
    plan = _build_plan(trt, version, builder, network, config, profile, logger, spec)
    _write(spec.plan, plan)
    if timing and spec.timing:
        _write_timing(config, spec.timing)
    return {
        "build_s": round(time.monotonic() - start, 1),
        "network_layers": network.num_layers,
        "bytes": plan.nbytes,
        "libraries": used_by(trt, version, config),
        "plugins": read.plugins,
    }


def _build_plan(
    trt: "ModuleType",
    version: Version,
    builder: "Builder",
    network: "NetworkDefinition",
    config: "BuilderConfig",
    profile: "Profile",
    logger: "Logger",
    spec: EngineSpec,
) -> "HostMemory":
    """Return the serialized engine; if the build fails without cuBLAS and cuDNN, it is repeated with them."""
    sources = leave_out(trt, version, config) if spec.lean else None
    with _calibrated(trt, version, config, profile, spec):
        plan = builder.build_serialized_network(network, config)
    if plan is None and sources is not None:
        del logger.errors[:]
        config.set_tactic_sources(sources)
        with _calibrated(trt, version, config, profile, spec):
            plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(refusal(trt, spec.source, logger.errors, logger))
    return plan


def _configure(
    trt: "ModuleType", version: Version, builder: "Builder", config: "BuilderConfig", spec: EngineSpec
) -> None:
    """Pass the specification on to TensorRT."""
    for flag in spec.flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if spec.precision == "fp32":
        # TF32 rounds more than the golden images of an FP32 model allow.
        config.clear_flag(trt.BuilderFlag.TF32)
    if has(version, "memory pools"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec.workspace_bytes)
    else:
        config.max_workspace_size = spec.workspace_bytes
    if has(version, "optimization level"):
        config.builder_optimization_level = spec.optimization_level
    if has(version, "inspector"):
        # So that the engine can report the precision of each layer; it does not make it slower.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if spec.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if spec.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if spec.dla is not None:
        _use_dla(trt, builder, config, spec.dla)


def _use_dla(trt: "ModuleType", builder: "Builder", config: "BuilderConfig", core: int) -> None:
    """Let a DLA core run the layers it supports, and the GPU the others."""
    cores = builder.num_DLA_cores
    if core >= cores:
        raise BackendError(
            "TensorRT {} finds {} here, and --dla {} was given; {}".format(
                trt.__version__,
                "{} DLA cores".format(cores) if cores else "no DLA",
                core,
                "the first core is 0" if cores else "Xavier and Orin have DLA; leave out --dla",
            )
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


@contextlib.contextmanager
def _calibrated(
    trt: "ModuleType", version: Version, config: "BuilderConfig", profile: "Profile", spec: EngineSpec
) -> Iterator[None]:
    """Set the calibrator for a build that needs one; raises what went wrong in it."""
    if spec.calibration is None:
        yield
        return
    from .calibrator import data_sha256, make_calibrator

    if data_sha256(spec.calibration) != spec.calibration_sha256:
        raise BackendError("{} was changed during the build; start it again".format(spec.calibration))
    calibrator = make_calibrator(trt, version, spec.calibration, spec.preprocessing)
    config.int8_calibrator = calibrator
    config.set_calibration_profile(profile)
    try:
        yield
    finally:
        calibrator.close()
    if calibrator.error:
        raise calibrator.error


def _add_profile(
    builder: "Builder", network: "NetworkDefinition", config: "BuilderConfig", spec: EngineSpec, logger: "Logger"
) -> "Profile":
    """Allow batches of every size in the specification; returns the profile."""
    image = network.get_input(0)
    rest = tuple(image.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, *[(batch,) + rest for batch in spec.batches])
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(
            "TensorRT refuses batches of {} (smallest, usual, largest) for {}: {}".format(
                list(spec.batches), spec.source, "; ".join(logger.errors)
            )
        )
    return profile


def _read_timing(config: "BuilderConfig", path: Optional[str]) -> bool:
    """Give the build the timings of earlier ones; a file that TensorRT rejects is ignored.  Returns whether timings are kept."""
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


def _write_timing(config: "BuilderConfig", path: str) -> None:
    # A convenience: without it the next build takes longer.
    with contextlib.suppress(OSError, OutputError), new_file(path, overwrite=True) as work:
        _write(work, config.get_timing_cache().serialize())


def _write(path: str, data: "HostMemory") -> None:
    try:
        with open(path, "wb") as stream:
            stream.write(data)
    except OSError as error:
        raise OutputError(
            "{} cannot be written, {} bytes ({}); free some space, or set XDG_CACHE_HOME to another folder".format(
                path, data.nbytes, error.strerror
            )
        )


def _make_monitor(trt: "ModuleType", send: Send) -> object:
    base: Any = trt.IProgressMonitor

    class Monitor(base):
        def __init__(self) -> None:
            base.__init__(self)
            self._steps: Dict[str, int] = {}
            self._next = 0.0

        def phase_start(self, phase: str, parent: Optional[str], steps: int) -> None:
            self._steps[phase] = steps
            self._report(phase, 0)

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

        def step_complete(self, phase: str, step: int) -> bool:
            self._report(phase, step + 1)
            return True

        def _report(self, phase: str, step: int) -> None:
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + _REPORT_EVERY_S
                send({"phase": phase, "step": step, "steps": self._steps.get(phase)})

    return Monitor()
