"""The TensorRT engine of a model for this very device: chosen, built once, kept.

An engine belongs to one TensorRT version and one GPU, so none travels: the bundle holds ONNX
files, and the engine is made here (``engine_process.py``) and kept (``engine_cache.py``).

Knows nothing of bundles and inference; ``engine_build.py`` and ``runners/trt.py`` do.
"""

import logging
import os
import re
import shutil
from typing import Any, Dict, NamedTuple

from . import __version__, engine_cache
from .engine_api import has, load_tensorrt, version_of
from .engine_main import Request
from .engine_process import Killed, Progress, Refused, build_engine
from .errors import BackendError
from .files import sha256_file
from .machine import board, jetson_linux

MAX_BATCH = 8
# TensorRT's own usual choice; 4 and 5 cost a Jetson many minutes more.
OPTIMIZATION_LEVEL = 3
# No INT8: Maxwell (Nano, 5.3), Pascal but for 6.1 (TX2 is 6.2), and what is older.  Source: NVIDIA's "Hardware and
# Precision" table in TensorRT's support matrix.  TensorRT 8 aborts there on a Q/DQ file.
_LEAST_INT8, _EARLY_INT8 = (7, 0), (6, 1)
_SMALL_BOARD_BYTES = 5 << 30
# A Nano, 4 GB, is killed with a workspace of 1 GB and passes with this one.
_SMALL_WORKSPACE = 256 << 20
_LARGEST_WORKSPACE = 4 << 30
_FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}
_log = logging.getLogger(__name__)


class Recipe(NamedTuple):
    """What an engine is made of.

    source          the ONNX file
    strongly_typed  whether the file's own types count; without it, precision is chosen by flags
    """

    source: str
    precision: str
    strongly_typed: bool


class Engine(NamedTuple):
    """An engine that was checked: its bytes, and the facts that are kept beside it."""

    plan: bytes
    facts: Dict[str, Any]


def choose(model_path, version, device):
    """Return the Recipe of a bundle's model file for a TensorRT of that version (a tuple) and a GPU.

    The name says the precision: model.fp32.onnx, model.fp16.onnx, model.int8-tensorrt.onnx.

    Raises BackendError for what this GPU or TensorRT cannot do.
    """
    folder, name = os.path.split(str(model_path))
    found = re.match(r"model\.(fp32|fp16|int8-tensorrt)\.onnx$", name)
    if not found:
        raise BackendError(
            "TensorRT takes model.fp32.onnx, model.fp16.onnx and model.int8-tensorrt.onnx, not {}; use another model "
            "with --model".format(name)
        )
    precision = found.group(1).split("-")[0]
    if precision == "int8" and device.capability < _LEAST_INT8 and device.capability != _EARLY_INT8:
        raise BackendError(
            "{} (compute capability {}.{}) has no INT8; use the model fp16 or fp32 with --model".format(
                device.name, *device.capability
            )
        )
    strongly_typed = has(version, "strong types")
    float_file = os.path.join(folder, "model.fp32.onnx")
    by_flag = precision == "fp16" and not strongly_typed and os.path.isfile(float_file)
    return Recipe(float_file if by_flag else str(model_path), precision, strongly_typed)


def workspace_for(device):
    """Return the bytes of memory that a build may work with on a GPU."""
    if device.total_bytes <= _SMALL_BOARD_BYTES:
        return _SMALL_WORKSPACE
    return max(_SMALL_WORKSPACE, min(device.free_bytes // 4, _LARGEST_WORKSPACE))


def ensure_engine(model_path, device, workspace_bytes=None, retry=False):
    """Return the Engine of a bundle's model file for a GPU; it is built, which takes minutes, where there is none.

    device          a Device of cuda.py
    workspace_bytes memory that the build may work with; None goes by the GPU's
    retry           build even if an earlier build failed

    Raises BackendError where TensorRT is missing, refuses the model, or cannot build it here.
    """
    version = version_of(load_tensorrt())
    recipe = choose(model_path, version, device)
    key = _key(recipe, version, device)
    folder = engine_cache.folder()
    engine = engine_cache.load(folder, key)
    if engine:
        return Engine(*engine)
    refused = engine_cache.refusal(folder, key)
    if refused and not retry:
        raise BackendError("{}\n  (that was tried before; to try again: build --retry)".format(refused))
    with engine_cache.writable(folder) as kept:
        return _build_and_keep(recipe, key, kept, workspace_bytes or workspace_for(device))


def _key(recipe, version, device):
    """Return all that an engine depends on."""
    return {
        "model_sha256": sha256_file(recipe.source),
        "tensorrt": ".".join(map(str, version)),
        "gpu": device.name,
        "compute_capability": "{}.{}".format(*device.capability),
        "precision": recipe.precision,
        "strongly_typed": recipe.strongly_typed,
        "max_batch": MAX_BATCH,
        "optimization_level": OPTIMIZATION_LEVEL,
    }


def _build_and_keep(recipe, key, folder, workspace_bytes):
    _check_space(folder, recipe.source)
    name = os.path.basename(recipe.source)
    _log.warning(
        "TensorRT %s builds an engine of %s (%s) for %s, once; it can take minutes",
        key["tensorrt"],
        name,
        key["precision"],
        key["gpu"],
    )
    with engine_cache.new_engine(folder, key) as plan:
        request = Request(
            source=recipe.source,
            plan=plan,
            flags=() if recipe.strongly_typed else _FLAGS[recipe.precision],
            exact=recipe.precision == "fp32",
            batches=(1, 1, MAX_BATCH),
            workspace_bytes=workspace_bytes,
            optimization_level=OPTIMIZATION_LEVEL,
            timing=engine_cache.timing_path(folder, key),
        )
        try:
            request, facts = _build_within_memory(request, Progress(name))
        except Refused as error:
            engine_cache.keep_refusal(folder, key, str(error))
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
    return Engine(data, engine_cache.keep_facts(folder, key, data, facts))


def _build_within_memory(request, progress):
    """Build an engine, once more with little memory where that was killed; returns the Request that worked, and facts."""
    try:
        return request, build_engine(request, progress)
    except Killed as error:
        if request.workspace_bytes <= _SMALL_WORKSPACE:
            raise
        _log.warning("%s; trying again with %d MB", error, _SMALL_WORKSPACE >> 20)
    request = request._replace(workspace_bytes=_SMALL_WORKSPACE)
    return request, build_engine(request, progress)


def _check_space(folder, source):
    # An engine is as large as its model, or a little larger.
    needed, free = 2 * os.path.getsize(source), shutil.disk_usage(folder).free
    if free < needed:
        raise BackendError(
            "{} has {} MB free, an engine needs {} MB; free some space, or choose another folder by "
            "XDG_CACHE_HOME".format(folder, free >> 20, needed >> 20)
        )
