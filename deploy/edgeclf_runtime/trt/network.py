"""Reads an ONNX file into TensorRT's network, with TensorRT's messages about it and the plugins that few graphs need."""

from typing import TYPE_CHECKING, Any, List, NamedTuple, Tuple

from ..bundle.model_file import model_bytes
from ..errors import BackendError
from ..files.read import sha256_bytes
from .versions import Version, has, version_of

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Optional, Protocol, Sequence

    from .engine_spec import EngineSpec

    # What is used of TensorRT's API for building, 8.0 to 11; versions.py says which version has which of it.

    class Logger(Protocol):
        """An ILogger of ``make_logger()``."""

        errors: List[str]
        no_errors: str

    class HostMemory(Protocol):
        """An IHostMemory: an engine, or a timing cache, as bytes."""

        nbytes: int

        def __buffer__(self, flags: int) -> memoryview: ...

    class Tensor(Protocol):
        """An ITensor."""

        name: str
        shape: Sequence[int]

    class NetworkDefinition(Protocol):
        """An INetworkDefinition."""

        num_layers: int
        num_inputs: int
        num_outputs: int

        def get_input(self, index: int) -> Tensor: ...

    class Parser(Protocol):
        """An OnnxParser."""

        num_errors: int

        def parse(self, model: bytes) -> bool: ...

        def get_error(self, index: int) -> object: ...

    class Profile(Protocol):
        """An IOptimizationProfile."""

        def set_shape(self, name: str, *smallest_usual_largest: Tuple[int, ...]) -> None: ...

    class TimingCache(Protocol):
        """An ITimingCache."""

        def serialize(self) -> HostMemory: ...

    class BuilderConfig(Protocol):
        """An IBuilderConfig."""

        max_workspace_size: int
        builder_optimization_level: int
        profiling_verbosity: object
        hardware_compatibility_level: object
        default_device_type: object
        DLA_core: int
        int8_calibrator: object
        progress_monitor: object

        def set_flag(self, flag: object) -> None: ...

        def clear_flag(self, flag: object) -> None: ...

        def set_memory_pool_limit(self, pool: object, size: int) -> None: ...

        def get_tactic_sources(self) -> int: ...

        def set_tactic_sources(self, sources: int) -> bool: ...

        def set_calibration_profile(self, profile: Profile) -> bool: ...

        def add_optimization_profile(self, profile: Profile) -> int: ...

        def create_timing_cache(self, known: bytes) -> Optional[TimingCache]: ...

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool: ...

        def get_timing_cache(self) -> TimingCache: ...

    class Builder(Protocol):
        """A Builder."""

        num_DLA_cores: int  # noqa: N815 - TensorRT's name

        def create_network(self, flags: int) -> NetworkDefinition: ...

        def create_builder_config(self) -> BuilderConfig: ...

        def create_optimization_profile(self) -> Profile: ...

        def build_serialized_network(
            self, network: NetworkDefinition, config: BuilderConfig
        ) -> Optional[HostMemory]: ...


# TensorRT 8 logs a whole node, numbers included.
_MOST_OF_A_LINE = 500


class Network(NamedTuple):
    """A TensorRT network and the parser that read it, which owns the weights in some versions.

    plugins     whether it needs TensorRT's plugins
    """

    network: "NetworkDefinition"
    parser: "Parser"
    plugins: bool


def make_logger(trt: "ModuleType") -> "Logger":
    """Return a logger for TensorRT that keeps errors in its list ``errors``.

    Before 8.2 none can be written in Python: TensorRT's own prints to stderr, and the list stays empty.  ``no_errors`` is
    what a message says if the list is empty.
    """
    if not has(version_of(trt), "own logger"):
        return _make_printing_logger(trt)
    base: Any = trt.ILogger

    class Logger(base):
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: List[str] = []
            self.no_errors = "no reason was given"

        def log(self, severity: object, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()


def _make_printing_logger(trt: "ModuleType") -> "Logger":
    base: Any = trt.Logger

    class Logger(base):
        def __init__(self) -> None:
            base.__init__(self, trt.Logger.ERROR)
            self.errors: List[str] = []
            self.no_errors = "its output is above"

    return Logger()


def read_network(trt: "ModuleType", builder: "Builder", logger: "Logger", spec: "EngineSpec") -> Network:
    """Return the Network of the model file; raises BackendError with the parser's words.

    Plugins are loaded only if the graph cannot be read without them, as one with an InstanceNormalization before 8.6.
    """
    path = spec.source
    data = model_bytes(path)
    if sha256_bytes(data) != spec.model_sha256:
        raise BackendError("{} was changed during the build; start it again".format(path))
    network, parser, errors = _parse(trt, builder, logger, spec.strongly_typed, data)
    plugins = bool(errors)
    if plugins:
        trt.init_libnvinfer_plugins(logger, "")
        network, parser, errors = _parse(trt, builder, logger, spec.strongly_typed, data)
    if errors:
        raise BackendError(refusal(trt, path, errors, logger))
    if network.num_inputs != 1 or network.num_outputs not in (1, 2):
        raise BackendError(
            "{} has {} inputs and {} outputs; one input, logits and perhaps features were expected: make the bundle again".format(
                path, network.num_inputs, network.num_outputs
            )
        )
    return Network(network, parser, plugins)


def _parse(
    trt: "ModuleType", builder: "Builder", logger: "Logger", strongly_typed: bool, data: bytes
) -> "Tuple[NetworkDefinition, Parser, List[str]]":
    """Return the network of an ONNX file's bytes, its parser, and the parser's errors."""
    version = version_of(trt)
    del logger.errors[:]
    network = builder.create_network(_flags(trt, version, strongly_typed))
    parser: "Parser" = trt.OnnxParser(network, logger)
    if parser.parse(data):
        return network, parser, []
    errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
    said = [] if has(version, "named errors") else [line[:_MOST_OF_A_LINE] for line in logger.errors]
    return network, parser, errors + said or [logger.no_errors]


def _flags(trt: "ModuleType", version: Version, strongly_typed: bool) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if strongly_typed:
        return 1 << int(flags.STRONGLY_TYPED)
    return 1 << int(flags.EXPLICIT_BATCH) if has(version, "explicit batch") else 0


def refusal(trt: "ModuleType", path: str, errors: List[str], logger: "Logger") -> str:
    """Return a message with TensorRT's reasons for refusing a model file."""
    lines = "".join("\n  " + line.replace("\n", "\n    ") for line in errors or [logger.no_errors])
    return "TensorRT {} refuses {}:{}".format(trt.__version__, path, lines)
