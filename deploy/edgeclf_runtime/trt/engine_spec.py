"""The TensorRT engine of a model: the options that a user gives, and the specification that they resolve to here.

A bundle's model becomes an engine in one of three ways: by the types in the file, by builder flags, or by a calibrator.
"""

import json
import os
import re
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Tuple

from ..device.machine import power_mode
from ..errors import BackendError, OptionError
from ..files.read import sha256_file
from .versions import Version, has

if TYPE_CHECKING:
    from ..runners.base import ModelPath
    from .gpu import Device

MAX_BATCH = 8
# TensorRT's own default; 4 and 5 cost a Jetson many minutes more.
OPTIMIZATION_LEVEL = 3
CALIBRATION_CACHE = "calibration.cache"
# On a Nano, 4 GB, a build with a workspace of 1 GB is killed; this one passes.
SMALL_WORKSPACE = 256 << 20
_SMALL_BOARD_BYTES = 5 << 30
_LARGEST_WORKSPACE = 4 << 30
# No INT8 on Maxwell (Nano, 5.3), on Pascal except 6.1 (TX2 is 6.2), or on anything older.  Source: NVIDIA's "Hardware
# and Precision" table in TensorRT's support matrix.  TensorRT 8 aborts there on a Q/DQ file.
_LEAST_INT8, _EARLY_INT8 = (7, 0), (6, 1)
AMPERE = (8, 0)
_STRONG_INT8 = "model.int8-fp16.onnx"
_FLAGS: Dict[str, Tuple[str, ...]] = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}


class EngineOptions(NamedTuple):
    """Engine options, as the user gives them; each is an option of the command lines.

    workspace           memory for the build in MB; None: based on the GPU's memory
    level               TensorRT's optimization level, 0 to 5, from TensorRT 8.6 on; None: 3
    dla                 DLA core that runs the layers it supports, the GPU the others; None: no DLA
    calibrator          INT8 by TensorRT's calibrator (up to TensorRT 10) with the ranges in calibration.cache, instead of
                        the Q/DQ file
    calibration         folder of images for the calibrator, instead of calibration.cache
    version_compatible  make an engine that later TensorRT versions can load too; slower
    hardware_compatible make an engine that other Ampere or newer GPUs can run too; slower
    retry               build even if the engine is cached, or failed to build before
    """

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


class EngineSpec(NamedTuple):
    """Everything that an engine depends on.

    The cache finds an engine by it, the building process builds it, and the runner calls the engine by it.  Its fields
    are the names in the cache's JSON files: a new field makes cached engines be built again.

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
    version_compatible  see EngineOptions
    hardware_compatible see EngineOptions
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

    def to_dict(self) -> Dict[str, Any]:
        """Return the specification as JSON can hold it."""
        return dict(self._asdict())

    @classmethod
    def from_dict(cls, facts: Dict[str, Any]) -> "Optional[EngineSpec]":
        """Return the specification that to_dict() described, or None if its fields are not those of this version."""
        return cls(**facts) if set(facts) == set(cls._fields) else None

    @property
    def flags(self) -> Tuple[str, ...]:
        """Names of TensorRT's BuilderFlag that choose the precision."""
        return () if self.strongly_typed else _FLAGS[self.precision]

    @property
    def batches(self) -> Tuple[int, int, int]:
        """Smallest, usual and largest batch."""
        return 1, 1, self.max_batch


class BuildRequest(NamedTuple):
    """A specification, with what its build needs besides: files, and memory.

    spec            the EngineSpec
    source          path of the ONNX file
    workspace_bytes memory for the build
    lean            leave out cuBLAS and cuDNN, unless the build fails without them
    calibration     path of the calibrator's data: calibration.cache or a folder of images; None without a calibrator
    preprocessing   fields of the bundle's Preprocessing, for these images
    plan            path of the engine to write
    timing          path of the timing cache, or None
    """

    spec: EngineSpec
    source: str
    workspace_bytes: int
    lean: bool = False
    calibration: Optional[str] = None
    preprocessing: Tuple[Any, ...] = ()
    plan: str = ""
    timing: Optional[str] = None

    def to_json(self) -> str:
        """Return the request as one line of JSON."""
        return json.dumps(dict(self._asdict(), spec=self.spec.to_dict()))

    @classmethod
    def from_json(cls, line: str) -> "BuildRequest":
        """Return the request that to_json() wrote."""
        fields = json.loads(line)
        return cls(**dict(fields, spec=EngineSpec(**fields["spec"])))


def resolve(
    model_path: "ModelPath",
    version: Version,
    device: "Device",
    options: EngineOptions,
    preprocessing: Tuple[Any, ...] = (),
) -> BuildRequest:
    """Return the BuildRequest of a bundle's model file for a TensorRT version, a GPU and options, without plan and timing.

    The file's name gives the precision: model.fp32.onnx, model.fp16.onnx, model.int8-tensorrt.onnx, or
    model.int8-fp16.onnx, whose float part is FP16 by its own types.

    Raises OptionError for a value out of range, and BackendError for what this GPU or TensorRT cannot do.
    """
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
    spec = EngineSpec(
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
    )
    workspace = workspace_for(device) if options.workspace is None else options.workspace << 20
    return BuildRequest(spec, source, workspace, _is_small(device), calibration, preprocessing)


def _precision(name: str) -> str:
    """Return the precision of a model file by its name."""
    found = re.match(r"model\.(fp32|fp16|int8)(-tensorrt|-fp16)?\.onnx$", name)
    if not found or (found.group(1) == "int8") != bool(found.group(2)):
        raise BackendError(
            "TensorRT takes model.fp32.onnx, model.fp16.onnx, model.int8-tensorrt.onnx and model.int8-fp16.onnx, not {}; "
            "use another model with --model".format(name)
        )
    return found.group(1)


def _is_small(device: "Device") -> bool:
    """Whether a GPU is on a board that is short of memory, such as a Nano with 4 GB shared by processor and GPU."""
    return device.integrated and device.total_bytes <= _SMALL_BOARD_BYTES


def workspace_for(device: "Device") -> int:
    """Return the memory for a build on a GPU, in bytes."""
    if device.total_bytes <= _SMALL_BOARD_BYTES:
        return SMALL_WORKSPACE
    return max(SMALL_WORKSPACE, min(device.free_bytes // 4, _LARGEST_WORKSPACE))


def _check_supported(precision: str, version: Version, device: "Device", options: EngineOptions) -> None:
    """Raise BackendError for what this GPU or TensorRT cannot do."""
    number = ".".join(map(str, version))
    gpu = "{} (compute capability {}.{})".format(device.name, *device.capability)
    if precision == "int8" and device.capability < _LEAST_INT8 and device.capability != _EARLY_INT8:
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
