"""Which file TensorRT is given, and how, on which board; what cannot be is a sentence."""

from __future__ import annotations

import pytest

from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.trt.spec import Options, choose, workspace_for
from tests.support.gpus import NANO, ORIN, RTX, TX2


@pytest.fixture
def files(tmp_path):
    for name in ("fp32", "fp16", "int8-tensorrt", "int8-fp16", "int8-cpu"):
        (tmp_path / f"model.{name}.onnx").touch()
    (tmp_path / "calibration.cache").touch()
    return lambda name: str(tmp_path / f"model.{name}.onnx")


@pytest.mark.parametrize("version", [(8, 2, 1, 8), (8, 6, 1), (10, 3, 0), (10, 11)])
def test_up_to_10_11_fp16_is_the_fp32_file_and_a_flag(files, version):
    assert choose(files("fp16"), version, NANO) == (files("fp32"), "fp16", False, ("FP16",), None, 8)
    flags = ("INT8", "FP16")
    assert choose(files("int8-tensorrt"), version, ORIN) == (files("int8-tensorrt"), "int8", False, flags, None, 8)


@pytest.mark.parametrize("version", [(10, 12), (10, 13, 3), (11, 4, 0, 106)])
def test_from_10_12_on_the_files_types_count(files, version):
    assert choose(files("fp16"), version, ORIN) == (files("fp16"), "fp16", True, (), None, 8)
    assert choose(files("int8-tensorrt"), version, ORIN) == (files("int8-tensorrt"), "int8", True, (), None, 8)


@pytest.mark.parametrize("version", [(8, 2, 1, 8), (8, 6, 1), (10, 3, 0), (10, 13, 3)])
def test_a_calibrator_makes_int8_of_the_fp32_file_and_the_bundles_cache(files, version):
    recipe = (files("fp32"), "int8", False, ("INT8", "FP16"))
    cache = files("int8-tensorrt").replace("model.int8-tensorrt.onnx", "calibration.cache")
    assert choose(files("int8-tensorrt"), version, ORIN, Options(calibrator=True)) == (*recipe, cache, 8)
    assert choose(files("int8-tensorrt"), version, ORIN, Options(dla=0)) == (*recipe, cache, 1)
    folder = cache.replace("calibration.cache", "")
    assert choose(files("int8-tensorrt"), version, ORIN, Options(calibration=folder)) == (*recipe, folder, 8)
    # It is for INT8 alone.
    assert choose(files("fp16"), version, ORIN, Options(calibrator=True)) == choose(files("fp16"), version, ORIN)


def test_a_dla_takes_the_fp16_flag_up_to_10_and_the_files_types_from_11_on(files):
    assert choose(files("fp16"), (10, 13, 3), ORIN, Options(dla=0)) == (
        files("fp32"),
        "fp16",
        False,
        ("FP16",),
        None,
        1,
    )
    assert choose(files("fp16"), (11, 4, 1), ORIN, Options(dla=0)) == (files("fp16"), "fp16", True, (), None, 1)
    int8 = files("int8-tensorrt")
    assert choose(int8, (11, 4, 1), ORIN, Options(dla=0)) == (int8, "int8", True, (), None, 1)


@pytest.mark.parametrize(
    ("name", "version", "device", "options", "message"),
    [
        ("fp32", (8, 6, 1), ORIN, Options(dla=0), "DLA computes in FP16 and INT8 alone; use --precision fp16 or int8"),
        ("int8-tensorrt", (8, 2, 1), NANO, Options(dla=0), "has no INT8; use the model fp16 or fp32 with --model"),
        (
            "int8-tensorrt",
            (11, 4, 0),
            ORIN,
            Options(calibrator=True),
            "TensorRT 11.4.0 has no calibrator, .*: INT8 comes",
        ),
        ("fp16", (8, 5, 2), ORIN, Options(level=5), "TensorRT 8.5.2 has no optimisation level, .*; leave out --level"),
        (
            "fp16",
            (8, 5, 2),
            ORIN,
            Options(version_compatible=True),
            "8.6 was the first; leave out --version-compatible",
        ),
        ("fp16", (8, 5, 2), ORIN, Options(hardware_compatible=True), "8.6 was the first; leave out --hardware-compat"),
        (
            "fp16",
            (10, 3, 0),
            ORIN,
            Options(hardware_compatible=True),
            r"since Ampere in a PC or server, Orin .* is none",
        ),
        (
            "fp16",
            (10, 3, 0),
            RTX._replace(name="RTX 2080", capability=(7, 5)),
            Options(hardware_compatible=True),
            r"since Ampere in a PC or server, RTX 2080 \(compute capability 7.5\) is none",
        ),
    ],
)
def test_what_this_gpu_or_tensorrt_has_not_is_a_sentence_with_the_remedy(
    files, name, version, device, options, message
):
    with pytest.raises(BackendError, match=message):
        choose(files(name), version, device, options)


def test_a_calibrator_without_ranges_is_refused_since_none_are_ever_made_up(files, tmp_path):
    (tmp_path / "calibration.cache").unlink()
    with pytest.raises(BackendError, match=r"calibration.cache is not there, .* real ranges; .* --calibration FOLDER"):
        choose(files("int8-tensorrt"), (8, 6, 1), ORIN, Options(calibrator=True))


def test_compatible_engines_are_for_gpus_since_ampere(files):
    assert choose(files("fp16"), (10, 3, 0), RTX, Options(hardware_compatible=True, version_compatible=True))


@pytest.mark.parametrize("device", [NANO, TX2])
def test_a_gpu_without_int8_never_gets_a_qdq_file(files, device):
    with pytest.raises(BackendError, match=r"has no INT8; use the model fp16 or fp32 with --model"):
        choose(files("int8-tensorrt"), (8, 2, 1, 8), device)


def test_a_file_for_other_backends_is_refused(files):
    with pytest.raises(BackendError, match=r"TensorRT takes .*, not model.int8-cpu.onnx"):
        choose(files("int8-cpu"), (8, 6, 1), ORIN)


def test_a_board_of_4_gb_gets_a_small_workspace():
    assert workspace_for(NANO) == 256 << 20
    assert workspace_for(TX2) == (5 << 30) // 4
    assert workspace_for(ORIN) == 4 << 30


def test_qdq_with_fp16_is_for_tensorrt_that_takes_precision_from_the_file(files):
    file = files("int8-fp16")
    assert choose(file, (10, 16, 1), ORIN) == (file, "int8", True, (), None, 8)
    with pytest.raises(
        BackendError, match=r"int8-fp16.onnx is for TensorRT 10.12 and later.* the model int8-tensorrt does"
    ):
        choose(file, (10, 3, 0), ORIN)
