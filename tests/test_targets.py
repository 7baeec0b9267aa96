import pytest

from edgeclf.targets import FLAVORS, TARGETS, model_file, precision_of

JETSONS = [name for name in TARGETS if name.startswith("jetson-")]


def test_every_model_of_a_target_is_fp32_or_a_flavor():
    assert {model for target in TARGETS.values() for model in target.models} == {"fp32", *FLAVORS}


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_given_fp32(name):
    assert "fp32" in TARGETS[name].models


def test_a_gpu_without_int8_is_given_none():
    assert TARGETS["jetson-nano"].models == ("fp16", "fp32")
    assert not TARGETS["jetson-nano"].calibration_cache


@pytest.mark.parametrize("name", [name for name in JETSONS if name != "jetson-nano"])
def test_the_other_jetsons_get_a_tensorrt_form_first(name):
    typed = ("int8-fp16",) if name in ("jetson-thor", "jetson-orin") else ()
    assert TARGETS[name].models[: len(typed) + 1] == (*typed, "int8-tensorrt")


def test_tensorrts_files_are_for_tensorrt_alone():
    backends = ("tensorrt", "tensorrt-rtx")
    names = {name for name, flavor in FLAVORS.items() if flavor.backends == backends}
    assert names == {"int8-tensorrt", "int8-fp16", "fp16"}


def test_a_models_name_gives_its_file_and_its_precision():
    assert [model_file(name) for name in ("fp32", "int8-cpu")] == ["model.fp32.onnx", "model.int8-cpu.onnx"]
    assert {name: precision_of(name) for name in ("fp32", *FLAVORS)} == {
        "fp32": "fp32",
        "int8-cpu": "int8",
        "int8-openvino": "int8",
        "int8-arm": "int8",
        "int8-tensorrt": "int8",
        "int8-fp16": "int8",
        "fp16": "fp16",
    }
