"""The TensorRT engine of a model: the options that a user gives, and the specification that they resolve to here.

EngineOptions -> resolve() -> EngineSpec.  The specification is all that follows: the key that finds a cached engine
(``trt/engine_cache.py``), the request that the building process reads (``trt/child.py``), and how the runner calls the engine
(``trt/runner.py``).  A new option is declared and resolved here, and passed on in ``trt/child.py``; its TensorRT names are in
``trt/versions.py``.

A bundle's model becomes an engine in one of three ways: by the types in the file, by builder flags, or by a calibrator.
"""

import json
import os
import re
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Tuple

from ..errors import BackendError, OptionError

if TYPE_CHECKING:
    from ..files.schema import JsonObject
    from ..runners.base import ModelPath
    from .gpu import Device
    from .versions import Version

MAX_BATCH = 8
# TensorRT's own default; 4 and 5 cost a Jetson many minutes more.
OPTIMIZATION_LEVEL = 3
CALIBRATION_CACHE = "calibration.cache"
_STRONG_INT8 = "model.int8-fp16.onnx"
_FLAGS: Dict[str, Tuple[str, ...]] = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}


class EngineOptions(NamedTuple):
    """Engine options, as the user gives them; OPTIONS says what each means."""

    workspace: Optional[int] = None
    level: Optional[int] = None
    dla: Optional[int] = None
    calibrator: bool = False
    calibration: Optional[str] = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    retry: bool = False

    def check(self) -> None:
        """Raise OptionError if a value is out of range."""
        if self.workspace is not None and self.workspace < 1:
            raise OptionError("workspace is {}; 1 megabyte or more was expected".format(self.workspace))
        if self.level is not None and not 0 <= self.level <= 5:
            raise OptionError("level is {}; 0 to 5 was expected".format(self.level))
        if self.dla is not None and self.dla < 0:
            raise OptionError("dla is {}; 0 or more was expected".format(self.dla))


class Option(NamedTuple):
    """An engine option on the command lines: ``python3 NAME.edge build``, and ``edgeclf build`` if ``host``.

    help        what it does, without a capital letter and a period
    metavar     placeholder, which also says what a value may be: see ``commands/option_types.py``; "" for a flag
    shown       the default in words, if it says anything
    """

    help: str
    metavar: str = ""
    shown: str = ""
    host: bool = True


OPTIONS = {
    "workspace": Option("memory for a build in MB", "MB", "based on the GPU's memory"),
    "level": Option("TensorRT's optimization level, from TensorRT 8.6 on", "0-5", "3"),
    "dla": Option(
        "DLA core, 0 or 1, for the layers that it supports; the GPU runs the others", "CORE", "GPU only", host=False
    ),
    "calibrator": Option(
        "make INT8 with TensorRT's calibrator and calibration.cache, up to TensorRT 10",
        shown="from the Q/DQ file",
        host=False,
    ),
    "calibration": Option(
        "calibrate with the images in this folder, instead of calibration.cache", "FOLDER", host=False
    ),
    "version_compatible": Option("make engines that later TensorRT versions can use too; slower"),
    "hardware_compatible": Option("make engines that other Ampere or newer GPUs can use too; slower"),
    "retry": Option("build even if the engine is cached, or failed to build before"),
}


class EngineSpec(NamedTuple):
    """Everything that an engine depends on, and what its build needs besides.

    The fields without a default are the key of the engine, and the names in the cache's JSON files: a new one makes cached
    engines be built again.

    model_sha256        hash of the ONNX file
    tensorrt            TensorRT's version, "8.5.2.2"
    gpu                 the GPU's name
    compute_capability  the GPU's, "8.7"
    power_mode          a Jetson's power mode; None if unknown, and on other machines
    precision           "fp32", "fp16" or "int8"
    strongly_typed      whether the types in the file decide the precision of each layer, instead of builder flags
    max_batch           largest batch
    optimization_level  TensorRT's, 0 to 5
    dla                 DLA core, or None
    calibration_sha256  hash of the calibrator's data; None without a calibrator
    version_compatible, hardware_compatible     see OPTIONS
    source              path of the ONNX file
    workspace_bytes     memory for the build
    lean                leave out cuBLAS and cuDNN, unless the build fails without them
    calibration         path of the calibrator's data: calibration.cache or a folder of images; None without a calibrator
    preprocessing       fields of the bundle's Preprocessing, for these images
    plan                path of the engine to write
    timing              path of the timing cache, or None
    """

    model_sha256: str
    tensorrt: str
    gpu: str
    compute_capability: str
    power_mode: Optional[str]
    precision: str
    strongly_typed: bool
    max_batch: int
    optimization_level: int
    dla: Optional[int]
    calibration_sha256: Optional[str]
    version_compatible: bool
    hardware_compatible: bool

    source: str = ""
    workspace_bytes: int = 0
    lean: bool = False
    calibration: Optional[str] = None
    preprocessing: Tuple[Any, ...] = ()
    plan: str = ""
    timing: Optional[str] = None

    @property
    def key(self) -> "JsonObject":
        """The fields that decide which engine it is, as JSON can hold them."""
        return {name: getattr(self, name) for name in self._fields if name not in self._field_defaults}

    @classmethod
    def from_key(cls, key: "JsonObject") -> "Optional[EngineSpec]":
        """Return the specification of a key, or None if its names are not those of this version."""
        return cls(**key) if set(key) == set(cls._fields) - set(cls._field_defaults) else None

    def to_json(self) -> str:
        """Return all fields as one line of JSON."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, line: str) -> "EngineSpec":
        """Return the specification that to_json() wrote."""
        return cls(**json.loads(line))

    @property
    def flags(self) -> Tuple[str, ...]:
        """Names of TensorRT's BuilderFlag that choose the precision."""
        return () if self.strongly_typed else _FLAGS[self.precision]

    @property
    def batches(self) -> Tuple[int, int, int]:
        """Smallest, usual and largest batch."""
        return 1, 1, self.max_batch


def resolve(
    model_path: "ModelPath",
    version: "Version",
    device: "Device",
    options: EngineOptions,
    preprocessing: Tuple[Any, ...] = (),
) -> EngineSpec:
    """Return the EngineSpec of a bundle's model file for a TensorRT version, a GPU and options, without plan and timing.

    The file's name gives the precision: model.fp32.onnx, model.fp16.onnx, model.int8-tensorrt.onnx, or
    model.int8-fp16.onnx, whose float part is FP16 by its own types.

    Raises OptionError for a value out of range, and BackendError for what this GPU or TensorRT cannot do.
    """
    # Imported here since both command lines import this module for OPTIONS.
    from ..device.machine import power_mode
    from ..files.read import sha256_file
    from .versions import has

    options.check()
    folder, name = os.path.split(str(model_path))
    precision = _precision(name)
    _check_supported(precision, version, device, options)
    on_old_dla = options.dla is not None and has(version, "precision flags")
    # DLA takes no Q/DQ before TensorRT 11.
    calibrated = precision == "int8" and bool(options.calibrator or options.calibration or on_old_dla)
    by_flags = not has(version, "strong types") or calibrated or on_old_dla
    if name == _STRONG_INT8 and by_flags:
        raise BackendError(
            "{} needs TensorRT 10.12 or later, which takes the precision from the file; with this one the model int8-tensorrt "
            "does the same by flags: leave out --model int8-fp16".format(name)
        )
    float_file = os.path.join(folder, "model.fp32.onnx")
    from_float = calibrated or (precision == "fp16" and by_flags and os.path.isfile(float_file))
    source = float_file if from_float else str(model_path)
    calibration = _calibration(folder, options) if calibrated else None
    return EngineSpec(
        model_sha256=sha256_file(source),
        tensorrt=".".join(map(str, version)),
        gpu=device.name,
        compute_capability="{}.{}".format(*device.capability),
        power_mode=power_mode(),
        precision=precision,
        strongly_typed=not by_flags,
        # DLA takes one batch size only.
        max_batch=MAX_BATCH if options.dla is None else 1,
        optimization_level=OPTIMIZATION_LEVEL if options.level is None else options.level,
        dla=options.dla,
        calibration_sha256=None if calibration is None else _data_sha256(calibration),
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        source=source,
        workspace_bytes=device.workspace_bytes if options.workspace is None else options.workspace << 20,
        lean=device.is_small,
        calibration=calibration,
        preprocessing=preprocessing,
    )


def _precision(name: str) -> str:
    """Return the precision of a model file by its name."""
    found = re.match(r"model\.(fp32|fp16|int8)(-tensorrt|-fp16)?\.onnx$", name)
    if not found or (found.group(1) == "int8") != bool(found.group(2)):
        raise BackendError(
            "TensorRT takes model.fp32.onnx, model.fp16.onnx, model.int8-tensorrt.onnx and model.int8-fp16.onnx, not {}; "
            "use another model with --model".format(name)
        )
    return found.group(1)


def _check_supported(precision: str, version: "Version", device: "Device", options: EngineOptions) -> None:
    """Raise BackendError for what this GPU or TensorRT cannot do."""
    from .gpu import AMPERE
    from .versions import has

    number = ".".join(map(str, version))
    gpu = "{} (compute capability {}.{})".format(device.name, *device.capability)
    if precision == "int8" and not device.has_int8:
        problem = "{} does not support INT8; use the model fp16 or fp32 with --model".format(gpu)
    elif precision == "fp32" and options.dla is not None:
        problem = "DLA supports only FP16 and INT8; use --precision fp16 or int8, or leave out --dla"
    elif (options.calibrator or options.calibration) and not has(version, "calibrator"):
        problem = (
            "TensorRT {} no longer supports INT8 calibrators (10 was the last version that did); leave out --calibrator "
            "and --calibration: INT8 comes from the Q/DQ file".format(number)
        )
    elif options.level is not None and not has(version, "optimization level"):
        problem = "TensorRT {} has no optimization level (8.6 is the first that does); leave out --level".format(number)
    elif options.version_compatible and not has(version, "version compatible"):
        problem = (
            "TensorRT {} cannot make version-compatible engines (8.6 is the first that can); leave out "
            "--version-compatible".format(number)
        )
    elif options.hardware_compatible and not has(version, "hardware compatible"):
        problem = (
            "TensorRT {} cannot make hardware-compatible engines (8.6 is the first that can); leave out "
            "--hardware-compatible".format(number)
        )
    elif options.hardware_compatible and (device.integrated or device.capability < AMPERE):
        problem = (
            "hardware-compatible engines need an Ampere or newer GPU in a PC or server, and this one is {}; leave out "
            "--hardware-compatible".format(gpu)
        )
    else:
        return
    raise BackendError(problem)


def _calibration(folder: str, options: EngineOptions) -> str:
    path = options.calibration or os.path.join(folder, CALIBRATION_CACHE)
    if not os.path.exists(path):
        raise BackendError(
            "{} does not exist, and a calibrator needs real ranges; calibrate with images on this device, "
            "--calibration FOLDER, or make the bundle again for TensorRT and INT8: edgeclf bundle RUN --target NAME".format(
                path
            )
        )
    return path


def _data_sha256(path: str) -> str:
    from .calibrator import data_sha256

    return data_sha256(path)
