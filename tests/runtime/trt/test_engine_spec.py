"""The specification of an engine by model file, TensorRT version, board and options, and the errors for what cannot be built."""

import json

import pytest

from edgeclf_runtime.errors import BackendError, OptionError
from edgeclf_runtime.files.read import sha256_bytes
from edgeclf_runtime.trt import engine_cache
from edgeclf_runtime.trt.engine_spec import OPTIONS, EngineOptions, EngineSpec, resolve
from tests.support.gpus import NANO, ORIN, RTX, TX2

DEFAULT = EngineOptions()
# Of an earlier runtime: its cached engines are found by this text's hash.
KEY = {
    "model_sha256": "ab" * 32,
    "tensorrt": "10.3.0.26",
    "gpu": "Orin",
    "compute_capability": "8.7",
    "power_mode": "MAXN (mode 0)",
    "precision": "int8",
    "strongly_typed": False,
    "max_batch": 1,
    "optimization_level": 3,
    "dla": 0,
    "calibration_sha256": "cd" * 32,
    "version_compatible": False,
    "hardware_compatible": False,
}


@pytest.fixture
def files(tmp_path):
    for name in ("fp32", "fp16", "int8-tensorrt", "int8-fp16", "int8-cpu"):
        (tmp_path / f"model.{name}.onnx").write_text(name)
    (tmp_path / "calibration.cache").touch()
    return lambda name: str(tmp_path / f"model.{name}.onnx")


def check(spec, **expected):
    """Compare fields of a specification by name."""
    assert {name: getattr(spec, name) for name in expected} == expected


@pytest.mark.parametrize("version", [(8, 2, 1, 8), (8, 6, 1), (10, 3, 0), (10, 11)])
def test_up_to_10_11_fp16_is_the_fp32_file_and_a_flag(files, version):
    fp16 = resolve(files("fp16"), version, NANO, DEFAULT)
    check(fp16, source=files("fp32"), precision="fp16", strongly_typed=False, flags=("FP16",))
    check(fp16, calibration=None, calibration_sha256=None, max_batch=8)
    int8 = resolve(files("int8-tensorrt"), version, ORIN, DEFAULT)
    check(int8, source=files("int8-tensorrt"), precision="int8", strongly_typed=False, flags=("INT8", "FP16"))
    check(int8, calibration=None, calibration_sha256=None, max_batch=8)


@pytest.mark.parametrize("version", [(10, 12), (10, 13, 3), (11, 4, 0, 106)])
def test_from_10_12_on_the_types_in_the_file_decide(files, version):
    for name, precision in (("fp16", "fp16"), ("int8-tensorrt", "int8")):
        spec = resolve(files(name), version, ORIN, DEFAULT)
        check(spec, source=files(name), precision=precision, strongly_typed=True, flags=())
        check(spec, calibration=None, calibration_sha256=None, max_batch=8)


@pytest.mark.parametrize("version", [(8, 2, 1, 8), (8, 6, 1), (10, 3, 0), (10, 13, 3)])
def test_a_calibrator_makes_int8_of_the_fp32_file_and_the_bundles_cache(files, version, tmp_path):
    ranges, folder = str(tmp_path / "calibration.cache"), str(tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").touch()
    for options, calibration, max_batch in (
        (EngineOptions(calibrator=True), ranges, 8),
        (EngineOptions(dla=0), ranges, 1),
        (EngineOptions(calibration=folder), folder, 8),
    ):
        spec = resolve(files("int8-tensorrt"), version, ORIN, options)
        check(spec, source=files("fp32"), precision="int8", strongly_typed=False, flags=("INT8", "FP16"))
        check(spec, calibration=calibration, max_batch=max_batch)
    # It is for INT8 only.
    calibrated = resolve(files("fp16"), version, ORIN, EngineOptions(calibrator=True))
    assert calibrated == resolve(files("fp16"), version, ORIN, DEFAULT)


def test_a_dla_uses_the_fp16_flag_up_to_10_and_the_types_in_the_file_from_11_on(files):
    old = resolve(files("fp16"), (10, 13, 3), ORIN, EngineOptions(dla=0))
    check(old, source=files("fp32"), precision="fp16", strongly_typed=False, flags=("FP16",), calibration=None)
    check(old, max_batch=1, dla=0)
    for name, precision in (("fp16", "fp16"), ("int8-tensorrt", "int8")):
        new = resolve(files(name), (11, 4, 1), ORIN, EngineOptions(dla=0))
        check(new, source=files(name), precision=precision, strongly_typed=True, flags=(), calibration=None)
        check(new, max_batch=1, dla=0)


@pytest.mark.parametrize(
    ("name", "version", "device", "options", "message"),
    [
        (
            "fp32",
            (8, 6, 1),
            ORIN,
            EngineOptions(dla=0),
            "DLA supports only FP16 and INT8; use --precision fp16 or int8",
        ),
        (
            "int8-tensorrt",
            (8, 2, 1),
            NANO,
            EngineOptions(dla=0),
            "does not support INT8; use the model fp16 or fp32 with --model",
        ),
        (
            "int8-tensorrt",
            (11, 4, 0),
            ORIN,
            EngineOptions(calibrator=True),
            "TensorRT 11.4.0 no longer supports INT8 calibrators .*: INT8 comes",
        ),
        (
            "fp16",
            (8, 5, 2),
            ORIN,
            EngineOptions(level=5),
            "TensorRT 8.5.2 has no optimization level .*; leave out --level",
        ),
        (
            "fp16",
            (8, 5, 2),
            ORIN,
            EngineOptions(version_compatible=True),
            "8.6 is the first that can.*; leave out --version-compatible",
        ),
        (
            "fp16",
            (8, 5, 2),
            ORIN,
            EngineOptions(hardware_compatible=True),
            "8.6 is the first that can.*; leave out --hardware-compat",
        ),
        (
            "fp16",
            (10, 3, 0),
            ORIN,
            EngineOptions(hardware_compatible=True),
            r"need an Ampere or newer GPU in a PC or server, and this one is Orin ",
        ),
        (
            "fp16",
            (10, 3, 0),
            RTX._replace(name="RTX 2080", capability=(7, 5)),
            EngineOptions(hardware_compatible=True),
            r"need an Ampere or newer GPU in a PC or server, and this one is RTX 2080 \(compute capability 7.5\)",
        ),
    ],
)
def test_unsupported_options_are_errors_with_the_remedy(files, name, version, device, options, message):
    with pytest.raises(BackendError, match=message):
        resolve(files(name), version, device, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EngineOptions(workspace=0), "workspace is 0; 1 megabyte or more was expected"),
        (EngineOptions(level=6), "level is 6; 0 to 5 was expected"),
        (EngineOptions(dla=-1), "dla is -1; 0 or more was expected"),
    ],
)
def test_a_value_out_of_range_is_an_option_error(files, options, message):
    with pytest.raises(OptionError, match=message):
        resolve(files("fp16"), (10, 3, 0), ORIN, options)


def test_a_calibrator_without_ranges_is_refused(files, tmp_path):
    (tmp_path / "calibration.cache").unlink()
    with pytest.raises(
        BackendError, match=r"calibration.cache does not exist, .* real ranges; .* --calibration FOLDER"
    ):
        resolve(files("int8-tensorrt"), (8, 6, 1), ORIN, EngineOptions(calibrator=True))


def test_compatible_engines_are_for_gpus_since_ampere(files):
    options = EngineOptions(hardware_compatible=True, version_compatible=True)
    check(resolve(files("fp16"), (10, 3, 0), RTX, options), hardware_compatible=True, version_compatible=True)


@pytest.mark.parametrize("device", [NANO, TX2])
def test_a_gpu_without_int8_never_gets_a_qdq_file(files, device):
    with pytest.raises(BackendError, match=r"does not support INT8; use the model fp16 or fp32 with --model"):
        resolve(files("int8-tensorrt"), (8, 2, 1, 8), device, DEFAULT)


@pytest.mark.parametrize("name", ["int8-cpu", "int8", "fp16-fp16", "fp32-tensorrt"])
def test_a_file_for_other_backends_is_refused(files, name):
    with pytest.raises(BackendError, match=rf"TensorRT takes .*, not model.{name}.onnx"):
        resolve(files(name), (8, 6, 1), ORIN, DEFAULT)


def test_a_board_of_4_gb_gets_a_small_workspace(files):
    assert NANO.workspace_bytes == 256 << 20
    assert TX2.workspace_bytes == (5 << 30) // 4
    assert ORIN.workspace_bytes == 4 << 30
    check(resolve(files("fp16"), (8, 2), NANO, DEFAULT), workspace_bytes=256 << 20, lean=True)
    check(resolve(files("fp16"), (8, 2), NANO, EngineOptions(workspace=128)), workspace_bytes=128 << 20)


def test_qdq_with_fp16_needs_a_tensorrt_that_takes_precision_from_the_file(files):
    file = files("int8-fp16")
    spec = resolve(file, (10, 16, 1), ORIN, DEFAULT)
    check(spec, source=file, precision="int8", strongly_typed=True, flags=(), calibration=None, max_batch=8)
    with pytest.raises(
        BackendError, match=r"int8-fp16.onnx needs TensorRT 10.12 or later.* the model int8-tensorrt does"
    ):
        resolve(file, (10, 3, 0), ORIN, DEFAULT)


def test_a_specification_finds_engines_that_earlier_versions_cached():
    spec = EngineSpec(**KEY, source="model.onnx", workspace_bytes=1, plan="plan", timing="timing")
    assert spec.key == KEY
    assert list(spec.key) == list(KEY)
    path = engine_cache._path("engines", spec)
    assert path == "engines/" + sha256_bytes(json.dumps(KEY, sort_keys=True).encode())[:32]
    assert path == "engines/906f8a0715d63e13c12ac793a7036ea1"


def test_every_option_and_fact_is_in_the_specification(files, monkeypatch):
    monkeypatch.setattr("edgeclf_runtime.device.machine.power_mode", lambda: "MAXN (mode 0)")
    spec = resolve(files("fp32"), (10, 3, 0), RTX, EngineOptions(level=5, version_compatible=True), (64, 48))
    assert spec == EngineSpec(
        model_sha256=sha256_bytes(b"fp32"),
        tensorrt="10.3.0",
        gpu=RTX.name,
        compute_capability="8.9",
        power_mode="MAXN (mode 0)",
        precision="fp32",
        strongly_typed=False,
        max_batch=8,
        optimization_level=5,
        dla=None,
        calibration_sha256=None,
        version_compatible=True,
        hardware_compatible=False,
        source=files("fp32"),
        workspace_bytes=(11 << 30) // 4,
        lean=False,
        calibration=None,
        preprocessing=(64, 48),
        plan="",
        timing=None,
    )


def test_the_building_process_reads_the_specification_that_was_written():
    spec = EngineSpec(*KEY.values(), "model.onnx", 256 << 20, True, "photos", (64, 48, "crop"), "plan", "timing")
    assert "\n" not in spec.to_json()
    read = EngineSpec.from_json(spec.to_json())
    assert read._replace(preprocessing=tuple(read.preprocessing)) == spec


def test_a_key_with_other_fields_is_not_a_specification():
    assert EngineSpec.from_key(KEY) == EngineSpec(**KEY)
    assert EngineSpec.from_key(dict(KEY, sparsity=True)) is None
    assert EngineSpec.from_key({name: value for name, value in KEY.items() if name != "dla"}) is None


def test_every_option_is_described_and_the_device_has_them_all():
    assert tuple(OPTIONS) == EngineOptions._fields
    flags = [name for name, one in OPTIONS.items() if not one.metavar]
    assert flags == [name for name, value in EngineOptions()._asdict().items() if value is False]
