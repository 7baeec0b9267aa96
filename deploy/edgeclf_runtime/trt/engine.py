"""The TensorRT engine of a model for this very device: chosen, built once, kept.

An engine belongs to one TensorRT version and one GPU, so none travels: the bundle holds ONNX
files, and the engine is made here (``trt/parent.py``) and kept (``trt/cache.py``).

Knows nothing of bundles and inference; ``commands/build.py`` and ``trt/runner.py`` do.
"""

import logging
import os
import shutil
from typing import Any, Dict, NamedTuple

from .. import __version__
from ..device.machine import board, jetson_linux, power_mode
from ..errors import BackendError
from ..files.read import sha256_file
from . import cache
from .cache import of_any_mode
from .child import Request
from .cuda import release_cuda
from .parent import Killed, Progress, Refused, build_engine
from .spec import AMPERE, OPTIMIZATION_LEVEL, SMALL_WORKSPACE, Options, choose, is_small, workspace_for
from .versions import load_tensorrt, version_of

_log = logging.getLogger(__name__)


class Engine(NamedTuple):
    """An engine that was checked: its bytes, the facts that are kept beside it, and the folder where that is."""

    plan: bytes
    facts: Dict[str, Any]
    folder: str


def ensure_engine(model_path, device, options=None):
    """Return the Engine of a bundle's model file for a GPU; it is built, which takes minutes, where there is none.

    model_path      a path, or a bundle's VerifiedFile: then what the engine is made of must be what the manifest lists
    device          a Device of trt/cuda.py
    options         Options of trt/spec.py, which make this engine the one that is used from now on; None takes
                    the one that is used

    Raises BackendError where TensorRT is missing, refuses the model, or cannot build it here.
    """
    version = version_of(load_tensorrt())
    folders = cache.folders()
    recipe = choose(model_path, version, device)
    key = usual = _key(recipe, version, device, Options())
    _check_verified(model_path, recipe, key)
    if options is None:
        for folder in folders:
            instead = cache.preferred(folder, of_any_mode(usual))
            engine = _find_of_any_mode([folder], dict(instead, power_mode=key["power_mode"])) if instead else None
            if engine:
                return engine
        engine = _find_of_any_mode(folders, key) or _find_compatible(folders, key)
        if engine:
            return engine
        options = Options()
    else:
        recipe = choose(model_path, version, device, options)
        key = _key(recipe, version, device, options)
        _check_verified(model_path, recipe, key)
    engine = None if options.retry else _find(folders, key)
    engine = engine or _build(recipe, key, folders, device, options)
    for folder in folders:
        _prefer(folder, usual, key if folder == engine.folder else usual)
    return engine


def forget_engines(model_path, device):
    """Take back that another engine is used in place of the usual one."""
    version = version_of(load_tensorrt())
    usual = _key(choose(model_path, version, device), version, device, Options())
    for folder in cache.folders():
        _prefer(folder, usual, usual)


def _prefer(folder, usual, key):
    cache.prefer(folder, of_any_mode(usual), of_any_mode(key))


def _key(recipe, version, device, options):
    """Return all that an engine depends on."""
    return {
        "model_sha256": sha256_file(recipe.source),
        "tensorrt": ".".join(map(str, version)),
        "gpu": device.name,
        "compute_capability": "{}.{}".format(*device.capability),
        "power_mode": power_mode(),
        "precision": recipe.precision,
        "strongly_typed": recipe.strongly_typed,
        "max_batch": recipe.max_batch,
        "optimization_level": OPTIMIZATION_LEVEL if options.level is None else options.level,
        "dla": options.dla,
        "calibration_sha256": _calibration_sha256(recipe.calibration),
        "version_compatible": options.version_compatible,
        "hardware_compatible": options.hardware_compatible,
    }


def _check_verified(model, recipe, key):
    """Raise BackendError if a file of a bundle's that the engine is made of is not what the manifest lists."""
    neighbor = getattr(model, "neighbor", lambda path: None)
    for path, sha256 in ((recipe.source, key["model_sha256"]), (recipe.calibration, key["calibration_sha256"])):
        file = neighbor(path) if path else None
        if file and file.sha256 != sha256:
            raise BackendError(
                "{} was changed since the bundle was verified; copy the bundle again from where it was made".format(
                    path
                )
            )


def _calibration_sha256(path):
    if path is None:
        return None
    from .calibrator import data_sha256

    return data_sha256(path)


def _find(folders, key):
    for folder in folders:
        found = cache.load(folder, key)
        if found:
            _log.info("the engine for %s of %s is used from %s", key.get("precision"), key.get("gpu"), folder)
            return Engine(found[0], found[1], folder)
    return None


def _find_compatible(folders, key):
    """Return an engine that the user had made for later TensorRTs or other GPUs, and that fits here, or None."""
    for folder in folders:
        for other in cache.keys(folder):
            engine = _find([folder], other) if _fits(other, key) else None
            if engine:
                _log.warning("an engine that was built by TensorRT %s for %s is used", other["tensorrt"], other["gpu"])
                return engine
    return None


def _find_of_any_mode(folders, key):
    """Return the engine of a key, or else one that differs from it in the power mode only, or None.

    In another mode other layers may be faster, but it is right, and a restart need not take the minutes of a build.
    """
    engine = _find(folders, key)
    if engine:
        return engine
    for folder in folders:
        for other in cache.keys(folder):
            engine = _find([folder], other) if of_any_mode(other) == of_any_mode(key) else None
            if engine:
                _log.warning(
                    "an engine that was built in power mode %s is used in %s; to have one built for this mode: build",
                    other.get("power_mode"),
                    key["power_mode"],
                )
                return engine
    return None


def _fits(other, key):
    """Whether the engine of another key may run in place of a key's own: what it was made compatible with may differ."""
    always = {"version_compatible", "hardware_compatible", "power_mode"}
    free = set(always)
    if other.get("version_compatible") and _numbers(other["tensorrt"]) <= _numbers(key["tensorrt"]):
        free.add("tensorrt")
    if other.get("hardware_compatible") and _numbers(key["compute_capability"]) >= AMPERE:
        free |= {"gpu", "compute_capability"}
    return free != always and all(other.get(name) == key[name] for name in set(key) - free)


def _numbers(version):
    return tuple(map(int, version.split(".")))


def _build(recipe, key, folders, device, options):
    for folder in folders:
        cache.tell_of_others(folder, key)
        refused = cache.refusal(folder, key)
        if refused and not options.retry:
            raise BackendError("{}\n  (that was tried before; to try again: build --retry)".format(refused))
    with cache.writable(folders) as folder:
        _check_space(folder, recipe.source)
        release_cuda()
        return _build_and_keep(recipe, key, folder, options, device)


def _build_and_keep(recipe, key, folder, options, device):
    name = os.path.basename(recipe.source)
    expected_s = cache.earlier_build_s(folder, key)
    wait = cache.is_being_built(folder, key)
    _log.warning(
        "another process has TensorRT %s build an engine of %s (%s) for %s: it is waited for"
        if wait
        else "TensorRT %s builds an engine of %s (%s) for %s, once; it can take minutes",
        key["tensorrt"],
        name,
        key["precision"],
        key["gpu"],
    )
    with cache.new_engine(folder, key) as plan:
        made = _find([folder], key) if wait else None
        if made:
            with open(plan, "wb") as stream:
                stream.write(made.plan)
            return made
        request = Request(
            source=recipe.source,
            source_sha256=key["model_sha256"],
            plan=plan,
            strongly_typed=recipe.strongly_typed,
            flags=recipe.flags,
            exact=recipe.precision == "fp32",
            batches=(1, 1, recipe.max_batch),
            workspace_bytes=options.workspace_bytes or workspace_for(device),
            lean=is_small(device),
            optimization_level=key["optimization_level"],
            timing=cache.timing_path(folder, key),
            dla=options.dla,
            calibration=recipe.calibration,
            calibration_sha256=key["calibration_sha256"],
            preprocessing=tuple(options.preprocessing or ()),
            version_compatible=options.version_compatible,
            hardware_compatible=options.hardware_compatible,
        )
        try:
            request, facts = _build_within_memory(request, Progress(name, expected_s))
        except Refused as error:
            cache.keep_refusal(folder, key, str(error))
            raise
        with open(plan, "rb") as stream:
            data = stream.read()
        facts = dict(
            facts,
            source=name,
            workspace_bytes=request.workspace_bytes,
            board=board(),
            jetson_linux=jetson_linux(),
            edgeclf_runtime=__version__,
        )
        # Before the engine has its name, so that a process that waits for it finds both.
        return Engine(data, cache.keep_facts(folder, key, data, facts), folder)


def _build_within_memory(request, progress):
    """Build an engine, once more with little memory where that was killed; returns the Request that worked, and facts."""
    try:
        return request, build_engine(request, progress)
    except Killed as error:
        if request.workspace_bytes <= SMALL_WORKSPACE:
            raise
        _log.warning("%s; trying again with %d MB", error, SMALL_WORKSPACE >> 20)
    request = request._replace(workspace_bytes=SMALL_WORKSPACE)
    return request, build_engine(request, progress)


def _check_space(folder, source):
    # An engine is as large as its model, or a little larger.
    needed, free = 2 * os.path.getsize(source), shutil.disk_usage(folder).free
    if free < needed:
        raise BackendError(
            "{} has {} MB free, an engine needs {} MB; free some space, or choose another folder by "
            "XDG_CACHE_HOME".format(folder, free >> 20, needed >> 20)
        )
