"""Which of a bundle's files TensorRT is given on this device, and how: by the file's own types, flags or a calibrator.

Knows nothing of building and keeping; ``trt/engine.py`` does.
"""

import os
import re
from typing import Any, NamedTuple, Optional, Tuple

from ..errors import BackendError
from .versions import has

MAX_BATCH = 8
# TensorRT's own usual choice; 4 and 5 cost a Jetson many minutes more.
OPTIMIZATION_LEVEL = 3
CALIBRATION_CACHE = "calibration.cache"
# A Nano, 4 GB, is killed with a workspace of 1 GB and passes with this one.
SMALL_WORKSPACE = 256 << 20
_SMALL_BOARD_BYTES = 5 << 30
_LARGEST_WORKSPACE = 4 << 30
# No INT8: Maxwell (Nano, 5.3), Pascal but for 6.1 (TX2 is 6.2), and what is older.  Source: NVIDIA's "Hardware and
# Precision" table in TensorRT's support matrix.  TensorRT 8 aborts there on a Q/DQ file.
_LEAST_INT8, _EARLY_INT8 = (7, 0), (6, 1)
AMPERE = (8, 0)
_FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}


class Options(NamedTuple):
    """What a user may ask of an engine.

    workspace_bytes     memory that the build may work with; None goes by the GPU's
    level               TensorRT's optimisation level, 0 to 5, from 8.6 on; None is its usual one
    dla                 core of the DLA that runs what it can, or None
    calibrator          INT8 from the FP32 file and calibration.cache, not from Q/DQ
    calibration         folder of images to calibrate with here, in place of calibration.cache
    preprocessing       the bundle's Preprocessing, for these images
    version_compatible, hardware_compatible
                        an engine for later TensorRTs, and for other GPUs since Ampere; slower
    retry               build even if there is one, or an earlier build failed
    """

    workspace_bytes: Optional[int] = None
    level: Optional[int] = None
    dla: Optional[int] = None
    calibrator: bool = False
    calibration: Optional[str] = None
    preprocessing: Any = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    retry: bool = False


class Recipe(NamedTuple):
    """What an engine is made of.

    source          the ONNX file
    strongly_typed  whether the file's own types count; without it, precision is chosen by flags
    flags           of BuilderFlag
    calibration     calibration.cache or a folder of images where a calibrator makes it INT8, else None
    max_batch       images at once
    """

    source: str
    precision: str
    strongly_typed: bool
    flags: Tuple[str, ...]
    calibration: Optional[str]
    max_batch: int


def choose(model_path, version, device, options=None):
    """Return the Recipe of a bundle's model file for a TensorRT of that version (a tuple) and a GPU.

    The name says the precision: model.fp32.onnx, model.fp16.onnx, model.int8-tensorrt.onnx, and model.int8-fp16.onnx,
    whose float part is FP16 by its own types.

    Raises BackendError for what this GPU or TensorRT cannot do.
    """
    options = options or Options()
    folder, name = os.path.split(str(model_path))
    found = re.match(r"model\.(fp32|fp16|int8-tensorrt|int8-fp16)\.onnx$", name)
    if not found:
        raise BackendError(
            "TensorRT takes model.fp32.onnx, model.fp16.onnx, model.int8-tensorrt.onnx and model.int8-fp16.onnx, not {}; "
            "use another model with --model".format(name)
        )
    precision = found.group(1).split("-")[0]
    _check_options(precision, version, device, options)
    on_old_dla = options.dla is not None and has(version, "precision flags")
    # DLA takes no Q/DQ before TensorRT 11.
    calibrated = precision == "int8" and bool(options.calibrator or options.calibration or on_old_dla)
    by_flags = not has(version, "strong types") or calibrated or on_old_dla
    if found.group(1) == "int8-fp16" and by_flags:
        raise BackendError(
            "{} is for TensorRT 10.12 and later, which takes precision from the file; here the model int8-tensorrt does "
            "the same by flags: leave out --model int8-fp16".format(name)
        )
    float_file = os.path.join(folder, "model.fp32.onnx")
    from_float = calibrated or (precision == "fp16" and by_flags and os.path.isfile(float_file))
    return Recipe(
        float_file if from_float else str(model_path),
        precision,
        not by_flags,
        _FLAGS[precision] if by_flags else (),
        _calibration(folder, options) if calibrated else None,
        # DLA takes one size alone.
        MAX_BATCH if options.dla is None else 1,
    )


def is_small(device):
    """Whether a GPU is of a board whose memory is short, such as a Nano's 4 GB, which processor and GPU share."""
    return device.integrated and device.total_bytes <= _SMALL_BOARD_BYTES


def workspace_for(device):
    """Return the bytes of memory that a build may work with on a GPU."""
    if device.total_bytes <= _SMALL_BOARD_BYTES:
        return SMALL_WORKSPACE
    return max(SMALL_WORKSPACE, min(device.free_bytes // 4, _LARGEST_WORKSPACE))


def _check_options(precision, version, device, options):
    """Raise BackendError for what this GPU or TensorRT cannot do."""
    number = ".".join(map(str, version))
    if precision == "int8" and device.capability < _LEAST_INT8 and device.capability != _EARLY_INT8:
        problem = "{} (compute capability {}.{}) has no INT8; use the model fp16 or fp32 with --model".format(
            device.name, *device.capability
        )
    elif precision == "fp32" and options.dla is not None:
        problem = "DLA computes in FP16 and INT8 alone; use --precision fp16 or int8, or leave out --dla"
    elif (options.calibrator or options.calibration) and not has(version, "calibrator"):
        problem = "TensorRT {} has no calibrator, 10 was the last with one; leave out --calibrator and --calibration: INT8 comes from the Q/DQ file".format(
            number
        )
    elif options.level is not None and not has(version, "optimization level"):
        problem = "TensorRT {} has no optimisation level, 8.6 was the first with one; leave out --level".format(number)
    elif options.version_compatible and not has(version, "version compatible"):
        problem = (
            "TensorRT {} makes no version-compatible engines, 8.6 was the first; leave out --version-compatible".format(
                number
            )
        )
    elif options.hardware_compatible and not has(version, "hardware compatible"):
        problem = "TensorRT {} makes no hardware-compatible engines, 8.6 was the first; leave out --hardware-compatible".format(
            number
        )
    elif options.hardware_compatible and (device.integrated or device.capability < AMPERE):
        problem = "hardware-compatible engines are for GPUs since Ampere in a PC or server, {} (compute capability {}.{}) is none; leave out --hardware-compatible".format(
            device.name, *device.capability
        )
    else:
        return
    raise BackendError(problem)


def _calibration(folder, options):
    path = options.calibration or os.path.join(folder, CALIBRATION_CACHE)
    if not os.path.exists(path):
        raise BackendError(
            "{} is not there, and INT8 by a calibrator needs real ranges; calibrate with images on this device, "
            "--calibration FOLDER, or make the bundle again for TensorRT and INT8: edgeclf bundle RUN --target NAME".format(
                path
            )
        )
    return path
