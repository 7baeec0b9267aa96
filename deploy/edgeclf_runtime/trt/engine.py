"""The TensorRT engine of a model for this very device: specified, built once, cached.

An engine belongs to one TensorRT version and one GPU, so none is copied between devices: the bundle holds ONNX files,
and each device builds its engine (``trt/parent.py``) and keeps it (``trt/engine_cache.py``).
"""

import logging
import os
import shutil
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

from .. import __version__
from ..device.machine import board, jetson_linux
from ..errors import BackendError
from ..files.schema import JsonObject
from ..text.versions import version_numbers
from . import engine_cache
from .cuda import release_cuda
from .engine_cache import Engine, of_any_mode
from .engine_spec import EngineOptions, EngineSpec, resolve
from .gpu import AMPERE, SMALL_WORKSPACE
from .parent import Killed, Progress, Refused, build_engine
from .versions import load_tensorrt, version_of

if TYPE_CHECKING:
    from ..runners.base import ModelPath
    from .gpu import Device

_log = logging.getLogger(__name__)


def ensure_engine(
    model_path: "ModelPath",
    device: "Device",
    options: Optional[EngineOptions] = None,
    preprocessing: Tuple[Any, ...] = (),
) -> Engine:
    """Return the Engine of a bundle's model file for a GPU; if there is none it is built, which takes minutes.

    model_path      a path, or a bundle's VerifiedFile: then the engine's source files must be what the manifest lists
    device          a Device of trt/gpu.py
    options         make the engine of these options the one that is used from now on; None takes the one in use
    preprocessing   the bundle's, for the images of options.calibration

    Raises BackendError if TensorRT is missing, refuses the model, or cannot build it here.
    """
    version = version_of(load_tensorrt())
    folders = engine_cache.folders()
    default = spec = resolve(model_path, version, device, EngineOptions())
    _check_verified(model_path, spec)
    if options is None:
        engine = _in_use(folders, default)
        if engine:
            return engine
        options = EngineOptions()
    else:
        spec = resolve(model_path, version, device, options, preprocessing)
        _check_verified(model_path, spec)
    engine = None if options.retry else _find(folders, spec)
    engine = engine or _build(spec, folders, options.retry)
    for folder in folders:
        engine_cache.prefer(folder, default, spec if folder == engine.folder else default)
    return engine


def forget_engines(model_path: "ModelPath", device: "Device") -> None:
    """Go back to the engine of the default options."""
    version = version_of(load_tensorrt())
    default = resolve(model_path, version, device, EngineOptions())
    for folder in engine_cache.folders():
        engine_cache.prefer(folder, default, default)


def _check_verified(model_path: "ModelPath", spec: EngineSpec) -> None:
    """Raise BackendError if a source file of the engine is in the bundle and is not what the manifest lists."""
    neighbor = getattr(model_path, "neighbor", None)
    if neighbor is None:
        return
    for path, sha256 in ((spec.source, spec.model_sha256), (spec.calibration, spec.calibration_sha256)):
        file = neighbor(path) if path else None
        if file and file.sha256 != sha256:
            raise BackendError(
                "{} was changed since the bundle was verified; copy the bundle again from where it was made".format(
                    path
                )
            )


def _in_use(folders: List[str], default: EngineSpec) -> Optional[Engine]:
    """Return the cached engine that is in use: the one asked for last, the default one, or one that fits; or None."""
    for folder in folders:
        preferred = engine_cache.preferred(folder, default)
        engine = _find_of_any_mode([folder], preferred) if preferred else None
        if engine:
            return engine
    return _find_of_any_mode(folders, default) or _find_compatible(folders, default)


def _find(folders: List[str], spec: EngineSpec) -> Optional[Engine]:
    for folder in folders:
        found = engine_cache.load(folder, spec)
        if found:
            _log.info("using the %s engine for %s in %s", spec.precision, spec.gpu, folder)
            return found
    return None


def _find_compatible(folders: List[str], spec: EngineSpec) -> Optional[Engine]:
    """Return an engine that was made for later TensorRT versions or other GPUs, and that fits here, or None."""
    for folder in folders:
        for other in engine_cache.specs(folder):
            engine = _find([folder], other) if _fits(other, spec) else None
            if engine:
                _log.warning("using an engine that TensorRT %s built for %s", other.tensorrt, other.gpu)
                return engine
    return None


def _find_of_any_mode(folders: List[str], spec: EngineSpec) -> Optional[Engine]:
    """Return the engine of a specification, or one that differs only in the power mode, or None.

    In another mode other layers may be faster, but the engine is right, and a restart need not take the minutes of a
    build.
    """
    engine = _find(folders, spec)
    if engine:
        return engine
    for folder in folders:
        for other in engine_cache.specs(folder):
            engine = _find([folder], other) if of_any_mode(other) == of_any_mode(spec) else None
            if engine:
                _log.warning(
                    "using an engine that was built in power mode %s; the mode is now %s: build makes an engine for it",
                    other.power_mode,
                    spec.power_mode,
                )
                return engine
    return None


def _fits(other: EngineSpec, spec: EngineSpec) -> bool:
    """Return whether the engine of another specification can replace a specification's own: it was made compatible with it."""
    always = {"version_compatible", "hardware_compatible", "power_mode"}
    free = set(always)
    if other.version_compatible and version_numbers(other.tensorrt) <= version_numbers(spec.tensorrt):
        free.add("tensorrt")
    if other.hardware_compatible and version_numbers(spec.compute_capability) >= AMPERE:
        free |= {"gpu", "compute_capability"}
    return free != always and all(getattr(other, name) == getattr(spec, name) for name in set(spec.key) - free)


def _build(spec: EngineSpec, folders: List[str], retry: bool) -> Engine:
    for folder in folders:
        engine_cache.log_others(folder, spec)
        refused = engine_cache.refusal(folder, spec)
        if refused and not retry:
            raise BackendError("{}\n  (this build failed before; to try again: build --retry)".format(refused))
    with engine_cache.writable(folders) as folder:
        _check_space(folder, spec.source)
        release_cuda()
        return _build_and_keep(spec, folder)


def _build_and_keep(spec: EngineSpec, folder: str) -> Engine:
    name = os.path.basename(spec.source)
    expected_s = engine_cache.earlier_build_s(folder, spec)
    wait = engine_cache.is_being_built(folder, spec)
    _log.warning(
        "waiting for another process, in which TensorRT %s is building an engine of %s (%s) for %s"
        if wait
        else "TensorRT %s is building an engine of %s (%s) for %s; this is done once and can take minutes",
        spec.tensorrt,
        name,
        spec.precision,
        spec.gpu,
    )
    with engine_cache.new_engine(folder, spec) as plan:
        made = _find([folder], spec) if wait else None
        if made:
            with open(plan, "wb") as stream:
                stream.write(made.plan)
            return made
        spec = spec._replace(plan=plan, timing=engine_cache.timing_path(folder, spec))
        try:
            spec, facts = _build_within_memory(spec, Progress(name, expected_s))
        except Refused as error:
            engine_cache.keep_refusal(folder, spec, str(error))
            raise
        with open(plan, "rb") as stream:
            data = stream.read()
        facts = dict(
            facts,
            source=name,
            workspace_bytes=spec.workspace_bytes,
            board=board(),
            jetson_linux=jetson_linux(),
            edgeclf_runtime=__version__,
        )
        # Before the engine has its name, so that a process that waits for it finds both.
        return Engine(data, engine_cache.keep_facts(folder, spec, data, facts), folder)


def _build_within_memory(spec: EngineSpec, progress: Progress) -> Tuple[EngineSpec, JsonObject]:
    """Build an engine, again with little memory if the build was killed; returns the specification that worked, and facts."""
    try:
        return spec, build_engine(spec, progress)
    except Killed as error:
        if spec.workspace_bytes <= SMALL_WORKSPACE:
            raise
        _log.warning("%s; trying again with %d MB", error, SMALL_WORKSPACE >> 20)
    spec = spec._replace(workspace_bytes=SMALL_WORKSPACE)
    return spec, build_engine(spec, progress)


def _check_space(folder: str, source: str) -> None:
    # An engine is as large as its model, or a little larger.
    needed, free = 2 * os.path.getsize(source), shutil.disk_usage(folder).free
    if free < needed:
        raise BackendError(
            "{} has {} MB free, and an engine needs {} MB; free some space, or set XDG_CACHE_HOME to another "
            "folder".format(folder, free >> 20, needed >> 20)
        )
