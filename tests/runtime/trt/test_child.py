"""The building process's calls to each TensorRT, on a stand-in that has only the names of that version.

Real builds are in nvidia/test_engine.py; for versions before 11 no library is at hand.
"""

from types import SimpleNamespace

import pytest

from edgeclf_runtime.errors import BackendError, ImageError
from edgeclf_runtime.files.read import sha256_bytes
from edgeclf_runtime.trt.calibrator import data_sha256
from edgeclf_runtime.trt.child import build
from edgeclf_runtime.trt.versions import FEATURES, has
from tests.support.engine_requests import SPEC

ENUMERATIONS = (
    "BuilderFlag",
    "DeviceType",
    "HardwareCompatibilityLevel",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "ProfilingVerbosity",
    "TacticSource",
)
LIBRARIES = {"CUBLAS": 0, "CUBLAS_LT": 1, "CUDNN": 2}


def members(kind, version):
    """The names of a TensorRT class that are used with a version."""
    names = {name for key, feature in FEATURES.items() if has(version, key) for name in feature.names}
    return {name.split(".")[1] for name in names if name.startswith(kind + ".")}


class Asked:
    """A TensorRT object that records calls and settings; a name outside the version's table is an error."""

    def __init__(self, kind, version, log, **answers):
        self.__dict__.update(_allowed=members(kind, version), _log=log, _answers=answers)

    def __getattr__(self, name):
        if name not in self._allowed:
            raise AttributeError(name)
        answer = self._answers.get(name)
        if name in ("num_errors", "num_inputs", "num_outputs", "num_layers", "num_DLA_cores", "name", "shape"):
            return answer

        def call(*arguments):
            self._log.append((name, arguments))
            return answer(*arguments) if callable(answer) else answer

        return call

    def __setattr__(self, name, value):
        if name not in self._allowed:
            raise AttributeError(name)
        self._log.append((name, value))


class Logger:
    ERROR, INTERNAL_ERROR = 1, 0

    def __init__(self):
        pass


class PrintingLogger:
    """TensorRT 8.0's logger, which prints: ILogger cannot be derived from there."""

    ERROR = 1

    def __init__(self, severity):
        assert severity == self.ERROR

    def log(self, severity, message):
        print(message)


class Base:
    """The base of a TensorRT class."""

    def __init__(self):
        pass


class Plan(bytes):
    nbytes = 4


PLAN = Plan(b"plan")


def tensorrt(text, log, parses=True, plan=PLAN, dla_cores=0, sources=0):
    """A module tensorrt of a version."""
    version = tuple(map(int, text.split(".")))

    def make(kind, **answers):
        return Asked(kind, version, log, **answers)

    image = make("ITensor", name="image", shape=(-1, 4, 4, 3))
    network = make("INetworkDefinition", num_inputs=1, num_outputs=1, num_layers=5, get_input=image)
    cache = make("ITimingCache", serialize=Plan(b"time"))
    config = make(
        "IBuilderConfig",
        create_timing_cache=cache,
        set_timing_cache=True,
        get_timing_cache=cache,
        add_optimization_profile=0,
        get_tactic_sources=lambda: ([given[0] for name, given in log if name == "set_tactic_sources"] or [sources])[-1],
        set_tactic_sources=True,
    )
    builder = make(
        "Builder",
        create_network=network,
        create_builder_config=config,
        create_optimization_profile=make("IOptimizationProfile"),
        build_serialized_network=plan,
        num_DLA_cores=dla_cores,
    )
    parser = make("OnnxParser", parse=parses, num_errors=2, get_error=lambda i: f"error {i}\nof the parser")

    def open_parser(network, logger):
        logger.log(Logger.ERROR, 'While parsing node number 0 [Foo -> "x"]:')
        return parser

    module = SimpleNamespace(
        __version__=text,
        ILogger=Logger if has(version, "own logger") else None,
        Logger=PrintingLogger,
        IProgressMonitor=object,
        Builder=lambda logger: builder,
        OnnxParser=open_parser,
        init_libnvinfer_plugins=lambda logger, name: log.append(("init_libnvinfer_plugins", (name,))),
        **{kind: SimpleNamespace(**{member: member for member in members(kind, version)}) for kind in ENUMERATIONS},
    )
    for number, flag in enumerate(("EXPLICIT_BATCH", "STRONGLY_TYPED")):
        if hasattr(module.NetworkDefinitionCreationFlag, flag):
            setattr(module.NetworkDefinitionCreationFlag, flag, number)
    for name in LIBRARIES if version < (11,) else ():
        setattr(module.TacticSource, name, LIBRARIES[name])
    if has(version, "calibrator"):
        module.IInt8EntropyCalibrator2 = Base
    return module


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Build with a TensorRT of a version: asked("8.2.1", "fp16") returns the calls and settings, by name.

    Other arguments are fields of the specification.
    """

    def run(version, precision="fp32", module=None, **fields):
        log = []
        standin = tensorrt(version, log, **(module or {}))
        monkeypatch.setattr("edgeclf_runtime.trt.child.load_tensorrt", lambda: standin)
        source, plan = tmp_path / "model.onnx", tmp_path / "plan"
        source.write_bytes(b"model")
        strongly_typed = has(tuple(map(int, version.split("."))), "strong types")
        spec = SPEC._replace(
            model_sha256=sha256_bytes(b"model"),
            tensorrt=version,
            precision=precision,
            strongly_typed=strongly_typed,
            source=str(source),
            workspace_bytes=256,
            plan=str(plan),
            timing=str(tmp_path / "timing"),
        )
        if fields.get("calibration"):
            spec = spec._replace(calibration_sha256=data_sha256(fields["calibration"]))
        facts = build(spec._replace(**fields), None)
        assert facts["network_layers"] == 5
        run.facts = facts
        assert plan.read_bytes() == b"plan"
        assert (tmp_path / "timing").read_bytes() == b"time"
        return log

    return run


@pytest.mark.parametrize("version", ["8.0.1.6", "8.2.1.8", "8.4.1", "8.5.2", "8.6.1", "10.3.0", "10.13.3", "11.4.0"])
def test_every_version_is_asked_for_batches_exact_numbers_and_the_model(asked, version):
    log = asked(version)
    assert ("parse", (b"model",)) in log
    assert ("set_shape", ("image", (1, 4, 4, 3), (1, 4, 4, 3), (8, 4, 4, 3))) in log
    assert ("clear_flag", ("TF32",)) in log


@pytest.mark.parametrize(
    ("version", "flags"),
    [("8.0.1.6", 1), ("8.2.1.8", 1), ("8.6.1", 1), ("10.3.0", 0), ("10.11.0", 0), ("10.12.0", 2), ("11.4.0", 2)],
)
def test_the_network_is_of_the_versions_kind(asked, version, flags):
    assert ("create_network", (flags,)) in asked(version)


@pytest.mark.parametrize("version", ["8.0.1.6", "8.2.1.8", "8.6.1", "10.3.0"])
def test_precision_is_asked_for_by_flags_and_other_numbers_stay_as_they_are(asked, version):
    log = asked(version, "int8")
    assert [call for call in log if call[0].endswith("_flag")] == [("set_flag", ("INT8",)), ("set_flag", ("FP16",))]


def test_workspace_and_level_are_set_in_the_versions_way(asked):
    assert ("max_workspace_size", 256) in asked("8.0.1.6")
    assert ("max_workspace_size", 256) in asked("8.2.1.8")
    log = asked("8.6.1")
    assert ("set_memory_pool_limit", ("WORKSPACE", 256)) in log
    assert ("builder_optimization_level", 3) in log


@pytest.mark.parametrize(("version", "monitored"), [("8.6.1", False), ("10.3.0", True)])
def test_progress_is_asked_for_where_the_version_tells_it(asked, version, monitored):
    assert ("progress_monitor" in [name for name, _ in asked(version)]) == monitored


@pytest.mark.parametrize(("version", "node_is_logged"), [("8.2.1.8", True), ("8.6.1", True), ("10.3.0", False)])
def test_every_error_of_the_parser_is_shown_and_the_node_is_named(asked, version, node_is_logged):
    with pytest.raises(BackendError) as refused:
        asked(version, module={"parses": False})
    assert str(refused.value).startswith(f"TensorRT {version} refuses ")
    assert "model.onnx:\n  error 0\n    of the parser\n  error 1\n    of the parser" in str(refused.value)
    # Since 10.0 the parser's own errors name it.
    assert ('\n  While parsing node number 0 [Foo -> "x"]:' in str(refused.value)) == node_is_logged


def test_a_build_without_a_result_is_an_error_with_the_logged_reasons(asked):
    with pytest.raises(BackendError, match=r"TensorRT 10.3.0 refuses .*model.onnx:\n  While parsing"):
        asked("10.3.0", module={"plan": None})


@pytest.mark.parametrize("version", ["8.2.1.8", "8.6.1", "10.3.0", "11.4.1"])
def test_a_dla_runs_what_it_can_and_the_gpu_the_rest(asked, version):
    log = asked(version, "fp16", dla=1, max_batch=1, module={"dla_cores": 2})
    assert ("default_device_type", "DLA") in log
    assert ("DLA_core", 1) in log
    assert ("set_flag", ("GPU_FALLBACK",)) in log
    assert ("set_shape", ("image", (1, 4, 4, 3), (1, 4, 4, 3), (1, 4, 4, 3))) in log


def test_a_missing_dla_core_is_a_clear_error(asked):
    with pytest.raises(
        BackendError, match=r"finds no DLA here, and --dla 0 was given; Xavier and Orin have DLA; leave out --dla"
    ):
        asked("10.3.0", "fp16", dla=0)
    with pytest.raises(BackendError, match=r"finds 2 DLA cores here, and --dla 2 was given; the first core is 0"):
        asked("10.3.0", "fp16", dla=2, module={"dla_cores": 2})


def test_compatible_engines_are_asked_for_where_the_user_asks(asked):
    assert "VERSION_COMPATIBLE" not in str(asked("8.6.1"))
    log = asked("8.6.1", version_compatible=True, hardware_compatible=True)
    assert ("set_flag", ("VERSION_COMPATIBLE",)) in log
    assert ("hardware_compatibility_level", "AMPERE_PLUS") in log


def test_with_strong_types_at_hand_a_calibrator_still_gets_flags(asked):
    log = asked("10.13.3", "int8", strongly_typed=False)
    assert ("create_network", (0,)) in log
    assert ("set_flag", ("INT8",)) in log


def calibrating(network, config):
    """Use a calibrator like TensorRT: its cache, or else all its images."""
    calibrator = dict(config._log)["int8_calibrator"]
    if not calibrator.read_calibration_cache():
        while calibrator.get_batch(["image"]):
            pass
    return PLAN


@pytest.mark.parametrize("version", ["8.2.1.8", "8.6.1", "10.3.0", "10.13.3"])
def test_a_calibrator_gives_the_build_its_ranges(asked, bundle, version):
    request = {"strongly_typed": False, "calibration": str(bundle / "calibration.cache")}
    log = asked(version, "int8", module={"plan": calibrating}, **request)
    names = [name for name, _ in log]
    assert names.index("set_calibration_profile") < names.index("build_serialized_network")


def test_an_image_that_cannot_be_read_ends_the_build_and_is_named(asked, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"no image")
    request = {"calibration": str(tmp_path / "photos"), "preprocessing": (8, 8)}
    with pytest.raises(ImageError, match=r"a\.png"):
        asked("8.6.1", "int8", module={"plan": calibrating}, **request)
    assert not (tmp_path / "plan").exists()


def test_tensorrt_8_0_has_no_inspector_and_no_logger_of_ours(asked, capsys):
    names = [name for name, _ in asked("8.0.1.6")]
    assert "profiling_verbosity" not in names
    assert "profiling_verbosity" in [name for name, _ in asked("8.2.1.8")]
    # What it says it prints; the program that waits shows that.
    assert "While parsing node number 0" in capsys.readouterr().out
    with pytest.raises(BackendError, match=r"TensorRT 8.0.1.6 refuses .*model.onnx:\n  its output is above"):
        asked("8.0.1.6", module={"plan": None})


@pytest.mark.parametrize("version", ["8.0.1.6", "8.2.1.8", "8.6.1", "10.3.0"])
def test_a_small_board_builds_without_cublas_and_cudnn(asked, version):
    # Bits 3 and 4 are of other sources.
    log = asked(version, lean=True, module={"sources": 0b11111})
    assert [given for name, given in log if name == "set_tactic_sources"] == [(0b11000,)]
    assert asked.facts["libraries"] == []
    log = asked(version, module={"sources": 0b11111})
    assert "set_tactic_sources" not in [name for name, _ in log]
    assert asked.facts["libraries"] == ["CUBLAS", "CUBLAS_LT", "CUDNN"]


@pytest.mark.parametrize(("version", "sources"), [("10.3.0", 0b11000), ("11.4.0", 0b11)])
def test_nothing_is_set_if_cublas_and_cudnn_are_off_anyway(asked, version, sources):
    log = asked(version, lean=True, module={"sources": sources})
    assert "set_tactic_sources" not in [name for name, _ in log]
    assert asked.facts["libraries"] == []


def test_a_network_that_needs_them_is_built_once_more_with_them(asked):
    plans = [None, PLAN]
    log = asked("8.2.1.8", lean=True, module={"sources": 0b111, "plan": lambda *_: plans.pop(0)})
    assert [given for name, given in log if name == "set_tactic_sources"] == [(0,), (0b111,)]
    assert asked.facts["libraries"] == ["CUBLAS", "CUBLAS_LT", "CUDNN"]
    plans = [None, None]
    with pytest.raises(BackendError, match=r"TensorRT 8.2.1.8 refuses"):
        asked("8.2.1.8", lean=True, module={"sources": 0b111, "plan": lambda *_: plans.pop(0)})


def test_images_are_calibrated_with_again_when_a_build_is_repeated(asked, bundle):
    calibrated = []

    def plan(network, config):
        calibrated.append(calibrating(network, config))
        return PLAN if len(calibrated) > 1 else None

    request = {"strongly_typed": False, "calibration": str(bundle / "calibration.cache"), "lean": True}
    log = asked("8.2.1.8", "int8", module={"plan": plan, "sources": 0b111}, **request)
    assert len(calibrated) == 2
    assert [name for name, _ in log].count("set_calibration_profile") == 2


@pytest.mark.parametrize("version", ["8.0.1.6", "8.6.1", "10.3.0", "11.4.0"])
def test_plugins_are_loaded_only_for_a_graph_that_cannot_be_read_without_them(asked, version):
    assert "init_libnvinfer_plugins" not in [name for name, _ in asked(version)]
    assert asked.facts["plugins"] is False
    answers = [False, True]
    log = asked(version, module={"parses": lambda data: answers.pop(0)})
    names = [name for name, _ in log]
    parsed = [place for place, name in enumerate(names) if name == "parse"]
    assert parsed[0] < names.index("init_libnvinfer_plugins") < parsed[1]
    # What was read in part is not read on.
    assert names.count("create_network") == 2
    assert asked.facts["plugins"] is True
