import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgeclf import CalibrationSet, QuantizeOptions, SplitOptions, load_dataset, quantize
from edgeclf.errors import DataError, GateError, ModelError, OptionError, OutputError
from edgeclf.progress import show_progress
from edgeclf.quantization.calibration_cache import parse_cache
from edgeclf.quantization.ranges import METHODS
from edgeclf.targets import FLAVORS, IR_VERSIONS, opset_of
from edgeclf.training.runs import read_run

INT8 = "model.int8-cpu.onnx"


def test_the_file_is_about_a_quarter_of_fp32(run):
    assert (run / INT8).stat().st_size < 0.3 * (run / "model.fp32.onnx").stat().st_size


@pytest.mark.parametrize("flavor", FLAVORS)
def test_every_file_is_one_that_every_target_reads(run, flavor):
    model = onnx.load(run / f"model.{flavor}.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset_of(flavor))]
    assert model.ir_version == IR_VERSIONS[opset_of(flavor)]
    types = {tensor.name: tensor.type.tensor_type.elem_type for tensor in (*model.graph.input, *model.graph.output)}
    assert types == {"image": TensorProto.FLOAT, "logits": TensorProto.FLOAT}


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(run, own_run):
    quantize(own_run, QuantizeOptions(size=60, max_drop=0.2, flavors=("int8-tensorrt", "fp16")))
    made = ["model.int8-tensorrt.onnx", "model.fp16.onnx", "calibration.cache"]
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
        assert file["latency_ms"] > 0


def test_of_the_range_methods_the_one_that_diverges_least_is_kept(run):
    for file in json.loads((run / "quantization.json").read_text())["files"]:
        tried = file["name"] in ("int8-cpu", "int8-arm", "int8-tensorrt")
        assert [trial["method"] for trial in file["trials"]] == (list(METHODS) if tried else [])
        for trial in file["trials"]:
            assert trial["divergence"] >= file["divergence"]


@pytest.mark.slow
def test_a_method_can_be_forced(own_run):
    report = quantize(own_run, QuantizeOptions(size=60, flavors=("int8-arm",), method="entropy", max_drop=0.5))
    (file,) = report.files
    assert [trial.method for trial in file.findings.trials] == [file.findings.method] == ["entropy"]


@pytest.mark.slow
def test_no_file_is_kept_where_one_loses_too_much(own_run, monkeypatch):
    before = sorted(path.name for path in own_run.iterdir())
    monkeypatch.setattr("edgeclf.quantization.search.fewest", lambda count, attempt: None)
    monkeypatch.setattr("edgeclf.quantization.rounding.Rounding.apply", ruin("blocks.6"))
    options = QuantizeOptions(size=20, flavors=("fp16", "int8-cpu"), method="minmax")
    with pytest.raises(
        GateError,
        match=r"int8-cpu has an accuracy of .* at most 0\.01 is accepted.* half of the layers in float were not",
    ):
        quantize(own_run, options)
    assert sorted(path.name for path in own_run.iterdir()) == before
    assert GateError.exit_code == 3


def ruin(part):
    """Set the weights of the convolutions whose name holds a part to 0, where they are INT8."""

    def apply(rounding, quantized, *_):
        tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
        made_by = {name: node for node in quantized.graph.node for name in node.output}
        for node in quantized.graph.node:
            if node.op_type == "Conv" and part in node.name and node.input[1] in made_by:
                stored = made_by[node.input[1]].input[0]
                zeros = np.zeros_like(numpy_helper.to_array(tensors[stored]))
                tensors[stored].CopyFrom(numpy_helper.from_array(zeros, stored))

    return apply


@pytest.mark.slow
def test_a_layer_that_ruins_the_file_goes_back_to_float_alone(own_run, monkeypatch):
    monkeypatch.setattr("edgeclf.quantization.rounding.Rounding.apply", ruin("blocks.4.0/conv_pwl"))
    options = QuantizeOptions(size=60, flavors=("int8-cpu",), method="minmax", max_drop=0.05)
    report = quantize(own_run, options, overwrite=True)
    (file,) = report.files
    assert [row.layer for row in file.findings.fallback] == ["/backbone/blocks/blocks.4/blocks.4.0/conv_pwl/Conv"]
    assert file.findings.fallback[0].size > 50_000
    assert file.findings.effects[0].layer == file.findings.fallback[0].layer
    assert file.findings.effects[0].snr_db < file.findings.effects[1].snr_db - 3
    assert file.comparison.drop <= 0.05
    assert "int8-cpu: back to float so that it passes: /backbone/blocks/blocks.4/" in str(report)


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


@pytest.mark.slow
def test_a_calibration_set_is_used_and_told_of(own_run, tmp_path):
    CalibrationSet.select(read_run(own_run).dataset(), 40, seed=5).save(tmp_path / "set")
    report = quantize(own_run, QuantizeOptions(calibration=str(tmp_path / "set"), max_drop=0.5, flavors=("int8-cpu",)))
    assert report.calibration_images == 40
    assert report.calibration_sha256 == CalibrationSet.load(tmp_path / "set").sha256
    table = str(report).splitlines()
    assert [line.split()[0] for line in table[:2]] == ["file", "fp32"]
    assert "40 calibration images" in str(report)


def test_a_calibration_set_that_holds_the_runs_test_images_is_refused(digits, own_run, tmp_path):
    other_division = load_dataset(digits, SplitOptions(seed=7))
    CalibrationSet.select(other_division, 100).save(tmp_path / "set")
    with pytest.raises(DataError, match="calibration must not see evaluation images"):
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
    with pytest.raises(OptionError, match="no range method 'max'; choose from best, minmax, percentile, entropy, mse"):
        QuantizeOptions(method="max")


@pytest.mark.slow
def test_a_label_that_no_calibration_image_has_is_told(own_run, tmp_path, capsys):
    chosen = CalibrationSet.select(read_run(own_run).dataset(), 60)
    left = tuple(entry for entry in chosen.entries if not entry[1].startswith("5"))
    replace(chosen, entries=left).save(tmp_path / "set")
    show_progress()
    quantize(
        own_run,
        QuantizeOptions(calibration=str(tmp_path / "set"), method="minmax", max_drop=0.9, flavors=("int8-cpu",)),
    )
    show_progress(False)
    assert (
        "warning: no calibration image has the label 5; the ranges of such images' activations are not known"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_dynamic_quantization_is_measured_for_comparison_and_not_kept(own_run):
    options = QuantizeOptions(size=60, flavors=("fp16",), max_drop=0.5, baseline=True)
    report = quantize(own_run, options)
    baseline = report.baseline
    assert baseline.name == "torch dynamic"
    # The head of these few digits has a weight that is a hundred times the others; one scale for all of them loses those.
    assert baseline.comparison.agreement < report.files[0].comparison.agreement
    assert baseline.latency_ms > 0
    # Its linear layer alone is smaller.
    assert 0.9 * report.size_fp32 < baseline.size < 1.05 * report.size_fp32
    assert "torch dynamic" in str(report)
    assert "torch dynamic" in (own_run / "quantization.html").read_text()
    assert sorted(own_run.glob("model.*.onnx")) == [own_run / "model.fp16.onnx", own_run / "model.fp32.onnx"]
