"""TensorRT's Python API by version, 8.0 to 11, and the import of TensorRT.

All decisions by version are in this table; tests compare it with the real classes of 8.6.1, 10.16.1 and 11.4.0.
Sources: those classes; for versions between them NVIDIA's release notes (docs.nvidia.com/deeplearning/tensorrt, "Release
Notes"); for 8.2 its API reference (.../archives/tensorrt-821/api/python_api); for 8.0, which JetPack 4.6.0 has, its C++
reference and the remains of its Python reference (.../archives/tensorrt-803/api).
"""

import sys
from typing import TYPE_CHECKING, Dict, NamedTuple, Tuple

from ..device.machine import gpu_nodes, is_jetson, jetson_linux
from ..device.remedies import install
from ..errors import BackendError
from ..text.versions import version_numbers

if TYPE_CHECKING:
    from types import ModuleType

Version = Tuple[int, ...]
_ENDLESS = (1000,)
# Jetson Linux: JetPack, and the only Python that its TensorRT supports (Ubuntu 18.04's, 20.04's, 22.04's, 24.04's).
_JETPACKS = {"R32": ("4.6", "3.6"), "R35": ("5", "3.8"), "R36": ("6", "3.10"), "R38": ("7", "3.12")}


class Feature(NamedTuple):
    """A way to do something with TensorRT.

    since, until    the first TensorRT version that it is used with, and the first that it is no longer used with
    names           every TensorRT name that it uses
    """

    since: Version
    until: Version
    names: Tuple[str, ...]


FEATURES: Dict[str, Feature] = {
    "everything": Feature(
        (8, 0),
        _ENDLESS,
        (
            "Builder.create_network",
            "Builder.create_builder_config",
            "Builder.create_optimization_profile",
            "Builder.build_serialized_network",
            "OnnxParser.parse",
            "OnnxParser.num_errors",
            "OnnxParser.get_error",
            "INetworkDefinition.num_inputs",
            "INetworkDefinition.num_outputs",
            "INetworkDefinition.get_input",
            "INetworkDefinition.num_layers",
            "ITensor.name",
            "ITensor.shape",
            "IOptimizationProfile.set_shape",
            "IBuilderConfig.add_optimization_profile",
            "IBuilderConfig.clear_flag",
            "IBuilderConfig.create_timing_cache",
            "IBuilderConfig.set_timing_cache",
            "IBuilderConfig.get_timing_cache",
            "ITimingCache.serialize",
            "IHostMemory.nbytes",
            "BuilderFlag.TF32",
            "Runtime.deserialize_cuda_engine",
            "ICudaEngine.create_execution_context",
            "DataType.FLOAT",
            # For graphs that the parser cannot read without plugins, which load cuDNN and cuBLAS.
            "init_libnvinfer_plugins",
        ),
    ),
    # Before 8.2 ILogger cannot be derived from, and Logger prints what it is given.
    "own logger": Feature((8, 2), _ENDLESS, ("ILogger.Severity", "ILogger.ERROR", "ILogger.INTERNAL_ERROR")),
    "printing logger": Feature((8, 0), _ENDLESS, ("Logger.ERROR",)),
    # Before 10 only the log has the node's name and operator.
    "named errors": Feature((10,), _ENDLESS, ("ParserError.node_name", "ParserError.node_operator")),
    "explicit batch": Feature((8, 0), (10,), ("NetworkDefinitionCreationFlag.EXPLICIT_BATCH",)),
    # Up to 10.11 flags choose the precision; they were deprecated in 10.12 and removed in 11, where the types in the file
    # decide.  From 10.12 on they are used only for calibrators and DLA.
    "precision flags": Feature((8, 0), (11,), ("IBuilderConfig.set_flag", "BuilderFlag.FP16", "BuilderFlag.INT8")),
    "calibrator": Feature(
        (8, 0),
        (11,),
        (
            "IBuilderConfig.int8_calibrator",
            "IBuilderConfig.set_calibration_profile",
            "IInt8EntropyCalibrator2.get_batch_size",
            "IInt8EntropyCalibrator2.get_batch",
            "IInt8EntropyCalibrator2.read_calibration_cache",
            "IInt8EntropyCalibrator2.write_calibration_cache",
        ),
    ),
    "DLA": Feature(
        (8, 0),
        _ENDLESS,
        (
            "Builder.num_DLA_cores",
            "IBuilderConfig.default_device_type",
            "IBuilderConfig.DLA_core",
            "IBuilderConfig.set_flag",
            "DeviceType.DLA",
            "BuilderFlag.GPU_FALLBACK",
            "Runtime.DLA_core",
        ),
    ),
    "inspector": Feature(
        (8, 2),
        _ENDLESS,
        (
            "IBuilderConfig.profiling_verbosity",
            "ProfilingVerbosity.DETAILED",
            "ICudaEngine.create_engine_inspector",
            "EngineInspector.get_engine_information",
            "LayerInformationFormat.JSON",
        ),
    ),
    # cuBLAS and cuDNN as sources of tactics: on by default in 8, off in 10, removed in 11.  CUDNN came after the other
    # two, and no source says that 8.0 has it.
    "tactics of other libraries": Feature(
        (8, 0),
        (11,),
        (
            "IBuilderConfig.get_tactic_sources",
            "IBuilderConfig.set_tactic_sources",
            "TacticSource.CUBLAS",
            "TacticSource.CUBLAS_LT",
        ),
    ),
    "version compatible": Feature(
        (8, 6),
        _ENDLESS,
        ("IBuilderConfig.set_flag", "BuilderFlag.VERSION_COMPATIBLE", "Runtime.engine_host_code_allowed"),
    ),
    "hardware compatible": Feature(
        (8, 6),
        _ENDLESS,
        ("IBuilderConfig.hardware_compatibility_level", "HardwareCompatibilityLevel.AMPERE_PLUS"),
    ),
    "strong types": Feature((10, 12), _ENDLESS, ("NetworkDefinitionCreationFlag.STRONGLY_TYPED",)),
    "workspace size": Feature((8, 0), (8, 4), ("IBuilderConfig.max_workspace_size",)),
    "memory pools": Feature((8, 4), _ENDLESS, ("IBuilderConfig.set_memory_pool_limit", "MemoryPoolType.WORKSPACE")),
    "optimization level": Feature((8, 6), _ENDLESS, ("IBuilderConfig.builder_optimization_level",)),
    "progress": Feature(
        (10,),
        _ENDLESS,
        (
            "IBuilderConfig.progress_monitor",
            "IProgressMonitor.phase_start",
            "IProgressMonitor.phase_finish",
            "IProgressMonitor.step_complete",
        ),
    ),
    "bindings": Feature(
        (8, 0),
        (8, 5),
        (
            "ICudaEngine.num_bindings",
            "ICudaEngine.binding_is_input",
            "ICudaEngine.get_binding_name",
            "ICudaEngine.get_binding_dtype",
            "ICudaEngine.get_binding_shape",
            "ICudaEngine.get_profile_shape",
            "IExecutionContext.set_binding_shape",
            "IExecutionContext.execute_async_v2",
        ),
    ),
    "named tensors": Feature(
        (8, 5),
        _ENDLESS,
        (
            "ICudaEngine.num_io_tensors",
            "ICudaEngine.get_tensor_name",
            "ICudaEngine.get_tensor_mode",
            "ICudaEngine.get_tensor_dtype",
            "ICudaEngine.get_tensor_shape",
            "ICudaEngine.get_tensor_profile_shape",
            "IExecutionContext.set_input_shape",
            "IExecutionContext.set_tensor_address",
            "IExecutionContext.execute_async_v3",
            "TensorIOMode.INPUT",
        ),
    ),
}


def load_tensorrt() -> "ModuleType":
    """Return the module tensorrt; if it is missing or too old, raise BackendError with how to install it."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:  # OSError: one of its libraries is missing
        useless = "" if is_jetson() or gpu_nodes() else "TensorRT needs an NVIDIA GPU, and this machine has none; "
        text = "{}TensorRT is not installed for {} ({}); {}"
        raise BackendError(text.format(useless, sys.executable, error, _how_to_install()))
    if version_of(tensorrt) < (8, 0):
        raise BackendError(
            "TensorRT {} is too old; 8.0 or later is needed: JetPack 4.6 and later have it".format(tensorrt.__version__)
        )
    return tensorrt


def _how_to_install() -> str:
    """Return how to install TensorRT here: by pip, or for this JetPack's own Python."""
    if not is_jetson():
        return "install it: " + install("tensorrt")
    how = "install it: sudo apt-get install python3-libnvinfer (in a container, use one of NVIDIA's l4t images)"
    jetpack, python = _JETPACKS.get((jetson_linux() or "").split(".")[0], ("", ""))
    if python and python != "{}.{}".format(*sys.version_info[:2]):
        return "JetPack {} has it for Python {} only: start with /usr/bin/python3; {}".format(jetpack, python, how)
    return how + ("; a virtual environment needs --system-site-packages" if sys.prefix != sys.base_prefix else "")


def version_of(tensorrt: "ModuleType") -> Version:
    """Return the version of the module tensorrt, as (8, 2, 1, 8)."""
    return version_numbers(tensorrt.__version__, 4)


def has(version: Version, feature: str) -> bool:
    """Return whether a feature of the table is used with a TensorRT version."""
    return FEATURES[feature].since <= version < FEATURES[feature].until
