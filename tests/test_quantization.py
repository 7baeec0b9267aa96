import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeclf import CalibrationSet, QuantizeOptions, SplitOptions, load_dataset, quantize
from edgeclf.errors import DataError, GateError, ModelError, OptionError, OutputError
from edgeclf.runs import read_run
from edgeclf.targets import IR_VERSION, OPSET

INT8 = "model.int8-cpu.onnx"


@pytest.fixture
def own_run(run, tmp_path):
    """A copy of the run without its INT8 files."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / INT8).unlink()
    (copy / "quantization.json").unlink()
    return copy


@pytest.fixture(scope="module")
def graph(run):
    return onnx.load(run / INT8).graph


def test_weights_of_convolutions_are_int8_per_output_channel(graph):
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {name: value for name, value in tensors.items() if name.endswith("_quantized") and value.ndim == 4}
    assert len(weights) == 48  # EfficientNet-Lite0's 49 convolutions but the first
    for name, value in weights.items():
        assert value.dtype == np.int8
        assert len(tensors[name.replace("_quantized", "_scale")]) == len(value)


def test_pixels_first_layer_and_head_stay_float(graph):
    made_by = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if "normalize" in node.name or "conv_stem" in node.name or node.op_type == "Gemm":
            assert made_by[node.input[0]].op_type != "DequantizeLinear" or node.op_type == "Gemm"
            assert not any(name.endswith("_quantized") for name in node.input)


def test_the_file_is_about_a_quarter_of_fp32(run):
    assert (run / INT8).stat().st_size < 0.3 * (run / "model.fp32.onnx").stat().st_size


def test_the_file_holds_nothing_that_nothing_reads(graph):
    used = {name for node in graph.node for name in node.input} | {"logits"}
    made = [tensor.name for tensor in graph.initializer] + [name for node in graph.node for name in node.output]
    assert set(made) <= used


def test_the_file_is_one_that_every_target_reads(run):
    model = onnx.load(run / INT8)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSION


def test_the_same_run_gives_the_same_bytes(run, own_run):
    quantize(own_run, QuantizeOptions(size=60, max_drop=0.2))
    assert (own_run / INT8).read_bytes() == (run / INT8).read_bytes()


def test_the_report_says_what_was_measured(run):
    report = json.loads((run / "quantization.json").read_text())
    assert report["calibration_images"] == 60
    assert report["files"][0]["name"] == "int8-cpu"
    assert report["files"][0]["agreement"] > 0.8


def test_a_file_that_loses_too_much_is_not_kept(own_run, monkeypatch):
    import edgeclf.quantization

    monkeypatch.setattr(edgeclf.quantization, "round_model", _zero_a_layer)
    with pytest.raises(GateError, match=r"int8-cpu has an accuracy of .* at most 0\.01 was accepted"):
        quantize(own_run, QuantizeOptions(size=20))
    assert sorted(path.name for path in own_run.iterdir() if "int8" in path.name or "quantization" in path.name) == []
    assert GateError.exit_code == 3


def _zero_a_layer(quantized, model, moments):
    tensor = next(tensor for tensor in quantized.graph.initializer if tensor.name.endswith("_quantized"))
    tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))


def test_training_images_outside_the_calibration_set_fill_up_a_small_validation_split(run):
    report = json.loads((run / "quantization.json").read_text())
    images = read_run(run).dataset().counts()
    assert report["judged_images"] == images["val"] + images["train"] - 60


def test_a_calibration_set_is_used_and_recorded(digits, own_run, tmp_path):
    CalibrationSet.select(load_dataset(digits), 40, seed=5).save(tmp_path / "set")
    report = quantize(own_run, QuantizeOptions(calibration=str(tmp_path / "set"), max_drop=0.5))
    assert report.calibration_images == 40
    assert report.calibration_sha256 == CalibrationSet.load(tmp_path / "set").sha256


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
