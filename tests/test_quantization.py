import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgeclf import CalibrationSet, QuantizeOptions, SplitOptions, load_dataset, quantize
from edgeclf.calibration_cache import parse_cache
from edgeclf.errors import DataError, GateError, ModelError, OptionError, OutputError
from edgeclf.runs import read_run
from edgeclf.targets import FLAVORS, IR_VERSION, OPSET

INT8 = "model.int8-cpu.onnx"


@pytest.fixture
def own_run(run, tmp_path):
    """A copy of the run as it was before quantize."""
    made = ("model.int8*", "model.fp16.onnx", "calibration.cache", "quantization.json")
    return Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns(*made)))


def test_the_file_is_about_a_quarter_of_fp32(run):
    assert (run / INT8).stat().st_size < 0.3 * (run / "model.fp32.onnx").stat().st_size


@pytest.mark.parametrize("flavor", FLAVORS)
def test_every_file_is_one_that_every_target_reads(run, flavor):
    model = onnx.load(run / f"model.{flavor}.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSION
    types = {tensor.name: tensor.type.tensor_type.elem_type for tensor in (*model.graph.input, *model.graph.output)}
    assert types == {"image": TensorProto.FLOAT, "logits": TensorProto.FLOAT}


def test_the_same_run_gives_the_same_bytes(run, own_run):
    quantize(own_run, QuantizeOptions(size=60, max_drop=0.2))
    made = [INT8, "model.int8-arm.onnx", "model.int8-tensorrt.onnx", "model.fp16.onnx", "calibration.cache"]
    assert [name for name in made if (own_run / name).read_bytes() != (run / name).read_bytes()] == []


def test_the_report_says_what_was_measured_of_each_file(run):
    report = json.loads((run / "quantization.json").read_text())
    assert report["calibration_images"] == 60
    assert [file["name"] for file in report["files"]] == list(FLAVORS)
    for file in report["files"]:
        assert file["agreement"] > 0.8
        assert file["drop_interval"][0] < file["drop"] < file["drop_interval"][1]
        assert set(file["drop_by_label"]) == {"3", "5", "8"}
        assert file["size"] == (run / f"model.{file['name']}.onnx").stat().st_size


def test_no_file_is_kept_where_one_loses_too_much(own_run, monkeypatch):
    before = sorted(path.name for path in own_run.iterdir())
    monkeypatch.setattr("edgeclf.rounding.Rounding.apply", _zero_a_layer)
    with pytest.raises(GateError, match=r"int8-cpu has an accuracy of .* at most 0\.01 was accepted"):
        quantize(own_run, QuantizeOptions(size=20, flavors=("fp16", "int8-cpu")))
    assert sorted(path.name for path in own_run.iterdir()) == before
    assert GateError.exit_code == 3


def _zero_a_layer(rounding, quantized):
    tensor = next(tensor for tensor in quantized.graph.initializer if tensor.name.endswith("_quantized"))
    tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))


def test_the_calibration_cache_holds_a_scale_for_each_activation(run):
    scales = parse_cache((run / "calibration.cache").read_text())
    graph = onnx.load(run / "model.fp32.onnx").graph
    made = {name for node in graph.node if node.op_type in ("Conv", "Clip", "Add") for name in node.output}
    assert {"image", *made} <= set(scales)
    assert abs(scales["image"] * 127 - 255) < 16


def test_training_images_outside_the_calibration_set_fill_up_a_small_validation_split(run):
    report = json.loads((run / "quantization.json").read_text())
    images = read_run(run).dataset().counts()
    assert report["judged_images"] == images["val"] + images["train"] - 60


def test_a_calibration_set_is_used_and_told_of(digits, own_run, tmp_path):
    CalibrationSet.select(load_dataset(digits), 40, seed=5).save(tmp_path / "set")
    report = quantize(own_run, QuantizeOptions(calibration=str(tmp_path / "set"), max_drop=0.5, flavors=("int8-cpu",)))
    assert report.calibration_images == 40
    assert report.calibration_sha256 == CalibrationSet.load(tmp_path / "set").sha256
    table = str(report).splitlines()
    assert [line.split()[0] for line in table[:2]] == ["file", "int8-cpu"]
    assert table[-1].endswith("40 calibration images")


def test_a_calibration_set_that_holds_the_runs_test_images_is_refused(digits, own_run, tmp_path):
    other_division = load_dataset(digits, SplitOptions(seed=7))
    CalibrationSet.select(other_division, 100).save(tmp_path / "set")
    with pytest.raises(DataError, match="calibration must not see the images that judge it"):
        quantize(own_run, QuantizeOptions(calibration=str(tmp_path / "set")))


def test_files_are_not_overwritten_unasked(run):
    before = (run / INT8).read_bytes()
    with pytest.raises(OutputError, match=r"int8-cpu\.onnx exists.*--overwrite"):
        quantize(run)
    assert (run / INT8).read_bytes() == before


def test_a_run_without_an_exported_file_names_the_command(own_run):
    (own_run / "model.fp32.onnx").unlink()
    with pytest.raises(ModelError, match="edgeclf export"):
        quantize(own_run)


def test_options_out_of_range_are_refused():
    with pytest.raises(OptionError, match=r"max-drop is 2"):
        QuantizeOptions(max_drop=2)
    with pytest.raises(OptionError, match="no flavor int4"):
        QuantizeOptions(flavors=("int4",))
