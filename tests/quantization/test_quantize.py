"""Quantizing a run: its files, its report, its options, and a second call."""

import json

import onnx
import pytest
from onnx import TensorProto

from edgeclf import QuantizeOptions, quantize
from edgeclf.errors import BackendError, OptionError, OutputError
from edgeclf.graph.inference import infer_graph_outputs
from edgeclf.graph.int8.ranges import METHODS
from edgeclf.quantization.flavors.calibration_cache import parse_cache
from edgeclf.quantization.report import FlavorError, read_report
from edgeclf.quantization.search import Search
from edgeclf.targets import FLAVORS, IR_VERSIONS, opset_of
from tests.support.html_pages import Page

INT8 = "model.int8-cpu.onnx"


def test_the_file_is_about_a_quarter_of_fp32(usual_run):
    assert (usual_run / INT8).stat().st_size < 0.3 * (usual_run / "model.fp32.onnx").stat().st_size


@pytest.mark.parametrize("flavor", FLAVORS)
def test_every_file_is_one_that_every_target_reads(run, flavor):
    model = onnx.load(run / f"model.{flavor}.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset_of(flavor))]
    assert model.ir_version == IR_VERSIONS[opset_of(flavor)]
    types = {tensor.name: tensor.type.tensor_type.elem_type for tensor in (*model.graph.input, *model.graph.output)}
    assert types == dict.fromkeys(("image", "logits", "features"), TensorProto.FLOAT)


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
        if file["name"] in ("int8-cpu", "int8-tensorrt"):
            assert [trial["method"] for trial in file["trials"]] == list(METHODS)
        if file["name"] in ("int8-fp16", "fp16"):
            assert file["trials"] == []
        for trial in file["trials"]:
            assert trial["divergence"] >= file["divergence"]


def test_files_with_the_same_steps_of_activations_share_the_method(run):
    files = {file["name"]: file for file in json.loads((run / "quantization.json").read_text())["files"]}
    for name in ("int8-openvino", "int8-arm"):
        assert [trial["method"] for trial in files[name]["trials"]] == [files["int8-cpu"]["method"]]


@pytest.mark.slow
def test_a_method_can_be_forced(own_run):
    report = quantize(own_run, QuantizeOptions(size=60, flavors=("int8-arm",), method="entropy", max_drop=0.5))
    (file,) = report.files
    assert [trial.method for trial in file.findings.trials] == [file.findings.method] == ["entropy"]


@pytest.mark.slow
def test_a_file_of_the_run_that_changed_is_not_described(own_run):
    options = {"size": 60, "method": "minmax", "max_drop": 0.5}
    quantize(own_run, QuantizeOptions(flavors=("fp16",), **options))
    (own_run / "model.fp16.onnx").unlink()
    report = quantize(own_run, QuantizeOptions(flavors=("int8-arm",), **options))
    assert [file.name for file in report.files] == ["int8-arm"]


def test_the_calibration_cache_holds_a_scale_for_each_activation(run):
    scales = parse_cache((run / "calibration.cache").read_text())
    graph = onnx.load(run / "model.fp32.onnx").graph
    made = {name for node in graph.node if node.op_type in ("Conv", "Clip", "Add") for name in node.output}
    assert {"image", *made} <= set(scales)
    assert abs(scales["image"] * 127 - 255) < 16


def test_files_are_not_overwritten_unasked(run):
    before = (run / INT8).read_bytes()
    with pytest.raises(OutputError, match=r"int8-cpu\.onnx exists: pass --overwrite to make it again$"):
        quantize(run)
    assert (run / INT8).read_bytes() == before


@pytest.mark.slow
def test_a_run_without_an_exported_file_is_exported(own_run):
    before = (own_run / "model.fp32.onnx").read_bytes()
    (own_run / "model.fp32.onnx").unlink()
    quantize(own_run, QuantizeOptions(flavors=("fp16",), size=20, max_drop=0.5))
    assert (own_run / "model.fp32.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, list(FLAVORS)),
        ({"targets": ("jetson-orin",)}, ["int8-arm", "int8-tensorrt", "int8-fp16", "fp16"]),
        ({"targets": ("x86-cpu", "arm-cpu")}, ["int8-cpu", "int8-openvino", "int8-arm"]),
        ({"flavors": ("fp16",), "targets": ("x86-cpu",)}, ["int8-cpu", "int8-openvino", "fp16"]),
    ],
)
def test_flavors_are_those_of_the_targets(options, names):
    assert QuantizeOptions(**options).wanted == tuple(names)


def test_options_out_of_range_are_refused():
    with pytest.raises(OptionError, match=r"max-drop is 2"):
        QuantizeOptions(max_drop=2)
    with pytest.raises(OptionError, match="no flavor int4"):
        QuantizeOptions(flavors=("int4",))
    with pytest.raises(OptionError, match="method is 'max'; best, minmax, percentile, entropy, mse was expected"):
        QuantizeOptions(method="max")


@pytest.mark.slow
def test_dynamic_quantization_is_measured_for_comparison_and_not_kept(own_run):
    options = QuantizeOptions(size=60, flavors=("fp16",), max_drop=0.5, baseline=True)
    report = quantize(own_run, options)
    baseline = report.baseline
    assert baseline.name == "torch dynamic"
    assert 0 < baseline.comparison.divergence < 0.1
    assert baseline.latency_ms > 0
    # Its linear layer alone is smaller.
    assert 0.9 * report.size_fp32 < baseline.size < 1.1 * report.size_fp32
    assert "torch dynamic" in str(report)
    assert "torch dynamic" in (own_run / "quantization.html").read_text()
    assert sorted(own_run.glob("model.*.onnx")) == [own_run / "model.fp16.onnx", own_run / "model.fp32.onnx"]


def test_an_earlier_report_without_the_newer_counts_is_read(own_run, tmp_path):
    quantize(own_run, size=30, flavors=("fp16",), max_drop=0.5)
    file = own_run / "quantization.json"
    facts = json.loads(file.read_text())
    del facts["gone"], facts["unreadable"]
    file.write_text(json.dumps(facts))
    assert read_report(own_run).gone == 0


@pytest.mark.slow
def test_a_backend_that_fails_for_one_flavor_leaves_the_others(own_run, monkeypatch):
    best = Search.best

    def failing(search, name, *others):
        if name == "int8-arm":
            raise BackendError("the backend ended")
        return best(search, name, *others)

    monkeypatch.setattr(Search, "best", failing)
    options = QuantizeOptions(size=30, max_drop=0.5, method="minmax", form="standard", flavors=("int8-arm", "int8-cpu"))
    with pytest.raises(FlavorError, match="the backend ended"):
        quantize(own_run, options)
    assert (own_run / INT8).is_file()
    assert not (own_run / "model.int8-arm.onnx").exists()


@pytest.mark.slow
def test_with_many_images_some_of_them_choose_the_method(own_run, monkeypatch):
    inferred = []

    def counting(model, name, batches):
        inferred.append(infer_graph_outputs(model, name, batches))
        return inferred[-1]

    monkeypatch.setattr("edgeclf.quantization.search._TRIAL_IMAGES", 20)
    monkeypatch.setattr("edgeclf.quantization.search.infer_graph_outputs", counting)
    options = QuantizeOptions(size=30, max_drop=0.5, flavors=("int8-cpu",), form="standard")
    (file,) = quantize(own_run, options).files
    images = {trial.method: trial.images for trial in file.findings.trials}
    judged = json.loads((own_run / "quantization.json").read_text())["judged_images"]
    assert images == {method: 0 if method == file.findings.method else judged // 4 for method in METHODS}
    assert [len(found.logits) for found in inferred] == [*[judged // 4] * len(METHODS), judged - judged // 4]
    chosen = next(trial for trial in file.findings.trials if not trial.images)
    assert chosen.comparison == file.comparison
    page = Page((own_run / "quantization.html").read_text(encoding="utf-8"))
    others = {f"{method} ({judged // 4} images)" for method in METHODS if images[method]}
    assert others == {row[1] for row in page.rows if row[1].endswith(" images)")}


@pytest.mark.slow
def test_if_the_chosen_method_loses_accuracy_every_method_is_compared_on_all_images(own_run, monkeypatch):
    monkeypatch.setattr("edgeclf.quantization.search._TRIAL_IMAGES", 20)
    monkeypatch.setattr("edgeclf.quantization.search._is_worse", lambda candidate: True)
    options = QuantizeOptions(size=30, max_drop=0.5, flavors=("int8-cpu",), form="standard")
    (file,) = quantize(own_run, options).files
    assert {trial.images for trial in file.findings.trials} == {0}
    assert min(trial.comparison.divergence for trial in file.findings.trials) == file.comparison.divergence
