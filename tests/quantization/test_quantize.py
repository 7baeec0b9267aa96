import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgeclf import CalibrationSet, QuantizeOptions, SplitOptions, load_dataset, quantize
from edgeclf.calibration.sets import within_training_images
from edgeclf.data.datasets import Dataset, Sample
from edgeclf.display.progress import show_progress
from edgeclf.errors import BackendError, DataError, GateError, OptionError, OutputError
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf.evaluation.logit_store import read_logits
from edgeclf.graph.inference import infer_graph_outputs
from edgeclf.graph.int8.ranges import METHODS
from edgeclf.quantization.flavors.calibration_cache import parse_cache
from edgeclf.quantization.report import FlavorError, read_report
from edgeclf.quantization.search import Search
from edgeclf.targets import FLAVORS, IR_VERSIONS, opset_of
from edgeclf.training.runs import read_run
from tests.support.html_pages import Page
from tests.support.photos import write_photos

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


def identity(path):
    """What stays if a file is not written again; a run is updated by hard links."""
    facts = path.stat()
    return facts.st_ino, facts.st_mtime_ns


@pytest.fixture
def spoiled(monkeypatch):
    """No INT8 file passes."""
    monkeypatch.setattr("edgeclf.quantization.search.fewest", lambda count, attempt: None)
    monkeypatch.setattr(Search, "_effects", lambda *_: [])  # they are another test's, and take long
    monkeypatch.setattr("edgeclf.graph.int8.rounding.Rounding.apply", ruin("blocks.4"))


REASON = r"int8-cpu has an accuracy of .* at most 0\.01 is accepted.* half of the layers in float were not"


@pytest.mark.slow
def test_what_passes_is_kept_where_a_flavor_that_was_asked_for_does_not(command, own_run, spoiled):
    options = QuantizeOptions(form="standard", size=20, flavors=("fp16", "int8-cpu"), method="minmax")
    with pytest.raises(FlavorError, match=REASON) as caught:
        quantize(own_run, options)
    assert sorted(path.name for path in own_run.glob("model.*.onnx")) == ["model.fp16.onnx", "model.fp32.onnx"]
    report = json.loads((own_run / "quantization.json").read_text())
    assert [file["name"] for file in report["files"]] == ["fp16"]
    [failed] = report["failed"]
    assert failed["name"] == "int8-cpu"
    assert re.search(REASON, failed["reason"])
    assert failed["reason"] in str(caught.value.report)
    assert "int8-cpu has an accuracy of" in (own_run / "quantization.html").read_text()
    # The command shows the report and ends with the error; the file that passed is not made again.
    before = identity(own_run / "model.fp16.onnx")
    code, out, err = command("quantize", own_run, "--flavor", "int8-cpu", "--size", 20, "--method", "minmax")
    assert (code, "fp16 " in out, "int8-cpu: not written" in out) == (3, True, True)
    assert err.count("error: ") == 1
    assert identity(own_run / "model.fp16.onnx") == before


@pytest.mark.slow
def test_flavors_that_nobody_named_may_fail_with_a_warning(command, own_run, spoiled):
    code, out, err = command("quantize", own_run, "--size", 20, "--method", "minmax")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[:4]] == ["file", "fp32", "fp16", "compared"]
    for name in ("int8-arm", "int8-tensorrt"):
        assert f"warning: no file of {name} was written" in err
        assert f"{name}: not written; {name} has an accuracy of" in out
    # TensorRT's calibrator would have the same ranges.
    assert not (own_run / "calibration.cache").exists()


@pytest.mark.slow
def test_a_target_that_was_named_asks_for_its_flavors(command, own_run, spoiled):
    code, out, err = command("quantize", own_run, "--target", "jetson-xavier", "--size", 20, "--method", "minmax")
    assert code == 3
    assert "no file of int8-arm, int8-tensorrt was written, which jetson-xavier would use: use more" in err
    assert "fp16 " in out
    assert (own_run / "model.fp16.onnx").is_file()
    error, *suggested = err.splitlines()[-3:]
    assert error.startswith("error: ")
    assert suggested == [
        f"next: edgeclf quantize {own_run} --flavor int8-arm --flavor int8-tensorrt --finetune-int8",
        f"next: edgeclf bundle {own_run} --output run.edge --target jetson-xavier",
    ]


@pytest.mark.slow
def test_a_call_of_which_nothing_passes_fails_and_says_why(own_run, spoiled):
    before = {path.name for path in own_run.iterdir()}
    with pytest.raises(GateError, match=REASON):
        quantize(own_run, QuantizeOptions(form="standard", size=20, targets=("x86-cpu",), method="minmax"))
    assert {path.name for path in own_run.iterdir()} - before == {"quantization.json", "quantization.html"}
    assert GateError.exit_code == 3


@pytest.mark.slow
def test_a_flavor_made_from_one_that_failed_is_not_searched_for(own_run, spoiled, capsys):
    show_progress()
    with pytest.raises(FlavorError) as caught:
        quantize(own_run, QuantizeOptions(form="standard", size=20, targets=("x86-gpu",), method="minmax"))
    show_progress(False)
    reasons = {failed.name: failed.reason for failed in caught.value.report.failed}
    assert reasons["int8-fp16"] == "int8-fp16 is made from int8-tensorrt, which did not pass"
    assert capsys.readouterr().err.count("evaluating int8-tensorrt minmax") == 1


@pytest.mark.slow
def test_a_second_call_adds_to_the_first(own_run, monkeypatch):
    options = {"size": 60, "method": "minmax", "max_drop": 0.5}
    first = quantize(own_run, QuantizeOptions(flavors=("fp16", "int8-tensorrt"), **options))
    made = {
        name: identity(own_run / name) for name in ("model.fp16.onnx", "model.int8-tensorrt.onnx", "calibration.cache")
    }
    searched = []
    best = Search.best
    monkeypatch.setattr(Search, "best", lambda self, name, *rest: searched.append(name) or best(self, name, *rest))
    second = quantize(own_run, QuantizeOptions(flavors=("int8-fp16",), **options))
    assert searched == ["int8-fp16"]  # its base is the file that is there
    assert {name: identity(own_run / name) for name in made} == made
    assert {file.name: file.sha256 for file in second.files if file.name != "int8-fp16"} == {
        file.name: file.sha256 for file in first.files
    }
    assert [file.name for file in second.files] == ["int8-tensorrt", "int8-fp16", "fp16"]
    assert read_report(own_run).to_json() == second.to_json()
    page = (own_run / "quantization.html").read_text()
    assert all(f"model.{name}.onnx" in page for name in ("int8-tensorrt", "int8-fp16", "fp16"))
    # What bundle will need was kept for every file.
    opened = read_run(own_run)
    logits = read_logits(own_run / "logits.npz", opened.preprocessing)
    val = EvaluationSet(opened.dataset().split("val"), opened.labels, opened.preprocessing)
    assert all(
        logits.known(digest, val) is not None for digest in (second.sha256_fp32, *(f.sha256 for f in second.files))
    )
    # Without --flavor those that are missing are made.
    third = quantize(own_run, QuantizeOptions(form="standard", targets=("x86-gpu",), **options))
    assert searched[1:] == ["int8-cpu"]
    assert len(third.files) == 4
    with pytest.raises(OutputError, match=r"exists.*--overwrite"):
        quantize(own_run, QuantizeOptions(form="standard", targets=("x86-gpu",), **options))


@pytest.mark.slow
def test_a_file_of_the_run_that_changed_is_not_described(own_run):
    options = {"size": 60, "method": "minmax", "max_drop": 0.5}
    quantize(own_run, QuantizeOptions(flavors=("fp16",), **options))
    (own_run / "model.fp16.onnx").unlink()
    report = quantize(own_run, QuantizeOptions(flavors=("int8-arm",), **options))
    assert [file.name for file in report.files] == ["int8-arm"]


def ruin(part):
    """Set the weights of the convolutions whose name holds a part to 0, where they are INT8."""

    def apply(rounding, quantized, *_):
        tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
        made_by = {name: node for node in quantized.graph.node for name in node.output}
        for node in quantized.graph.node:
            if node.op_type == "Conv" and part in node.name and node.input[1] in made_by:
                stored = made_by[node.input[1]].input[0]
                while stored in made_by:  # TensorRT's form quantizes weights that are stored as float
                    stored = made_by[stored].input[0]
                zeros = np.zeros_like(numpy_helper.to_array(tensors[stored]))
                tensors[stored].CopyFrom(numpy_helper.from_array(zeros, stored))

    return apply


@pytest.mark.slow
def test_a_layer_that_ruins_the_file_goes_back_to_float_alone(own_run, monkeypatch):
    monkeypatch.setattr("edgeclf.graph.int8.rounding.Rounding.apply", ruin("blocks.4.0/conv_pwl"))
    options = QuantizeOptions(form="standard", size=60, flavors=("int8-cpu",), method="minmax", max_drop=0.05)
    report = quantize(own_run, options, overwrite=True)
    (file,) = report.files
    assert [row.layer for row in file.findings.fallback] == ["/backbone/blocks/blocks.4/blocks.4.0/conv_pwl/Conv"]
    assert file.findings.fallback[0].size > 1_000
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
    report = quantize(
        own_run,
        QuantizeOptions(form="standard", calibration=str(tmp_path / "set"), max_drop=0.5, flavors=("int8-cpu",)),
    )
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


@pytest.mark.parametrize(
    ("train", "val", "size", "expected"), [(90, 10, 300, 45), (90, 10, 40, 40), (700, 500, 600, 600), (1, 1, 5, 1)]
)
def test_calibration_leaves_images_to_evaluate_on(train, val, size, expected):
    samples = [
        Sample(Path(f"{split}{n}"), "a", split)
        for split, count in (("train", train), ("val", val))
        for n in range(count)
    ]
    assert within_training_images(Dataset("photos", Path(), ("a",), tuple(samples)), size) == expected


@pytest.mark.slow
def test_a_small_data_set_is_not_used_up_by_calibration(own_run):
    counts = read_run(own_run).dataset().counts()
    report = quantize(own_run, QuantizeOptions(flavors=("fp16",), max_drop=0.5))  # 300 images by default
    assert report.calibration_images == counts["train"] // 2
    assert report.judged_images == counts["val"] + counts["train"] - counts["train"] // 2
    assert report.files[0].conditions.trained_images == counts["train"] - counts["train"] // 2


def test_options_out_of_range_are_refused():
    with pytest.raises(OptionError, match=r"max-drop is 2"):
        QuantizeOptions(max_drop=2)
    with pytest.raises(OptionError, match="no flavor int4"):
        QuantizeOptions(flavors=("int4",))
    with pytest.raises(OptionError, match="method is 'max'; best, minmax, percentile, entropy, mse was expected"):
        QuantizeOptions(method="max")


@pytest.mark.slow
def test_a_label_that_no_calibration_image_has_is_told(own_run, tmp_path, capsys):
    chosen = CalibrationSet.select(read_run(own_run).dataset(), 60)
    left = tuple(entry for entry in chosen.entries if not entry[1].startswith("5"))
    replace(chosen, entries=left).save(tmp_path / "set")
    show_progress()
    quantize(
        own_run,
        QuantizeOptions(
            form="standard", calibration=str(tmp_path / "set"), method="minmax", max_drop=0.9, flavors=("int8-cpu",)
        ),
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
    assert 0 < baseline.comparison.divergence < 0.1
    assert baseline.latency_ms > 0
    # Its linear layer alone is smaller.
    assert 0.9 * report.size_fp32 < baseline.size < 1.1 * report.size_fp32
    assert "torch dynamic" in str(report)
    assert "torch dynamic" in (own_run / "quantization.html").read_text()
    assert sorted(own_run.glob("model.*.onnx")) == [own_run / "model.fp16.onnx", own_run / "model.fp32.onnx"]


def forget_the_images(run):
    """Let a run's images be gone from where they were."""
    facts = json.loads((run / "run.json").read_text())
    facts["data"]["root"] = "/nowhere"
    (run / "run.json").write_text(json.dumps(facts))


FP16 = {"flavors": ("fp16",), "max_drop": 0.5}


def test_a_run_whose_images_moved_is_quantized_from_where_they_are_now(own_run, digits, tmp_path):
    forget_the_images(own_run)
    with pytest.raises(DataError, match="name the folder that has them now with --data"):
        quantize(own_run, **FP16)
    moved = shutil.copytree(digits, tmp_path / "moved")
    (moved / "3" / "000.png").unlink()
    report = quantize(own_run, data=str(moved), **FP16)
    assert (report.gone, report.unreadable) == (1, 0)
    assert json.loads((own_run / "quantization.json").read_text())["gone"] == 1
    assert "left out: 1 of the run's images that are gone" in str(report)


def test_with_a_calibration_set_only_the_evaluation_images_are_needed(own_run, digits, tmp_path):
    calibrated = CalibrationSet.select(read_run(own_run).dataset(), 30)
    calibrated.save(tmp_path / "set")
    for sample in read_run(own_run).dataset().split("val"):
        (tmp_path / "val" / sample.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, tmp_path / "val" / sample.label)
    forget_the_images(own_run)
    options = {"calibration": str(tmp_path / "set"), **FP16}
    report = quantize(own_run, data=str(tmp_path / "val"), **options)
    assert (report.calibration_images, report.judged_images, report.gone) == (30, 12, 168)
    write_photos(tmp_path / "new", [f"{label}/{number}.png" for label in "358" for number in range(3)])
    report = quantize(own_run, data=str(tmp_path / "new"), overwrite=True, **options)
    assert (report.judged_images, report.files[0].conditions.trained_images) == (9, 0)


def test_an_earlier_report_without_the_newer_counts_is_read(own_run, tmp_path):
    quantize(own_run, size=30, **FP16)
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
