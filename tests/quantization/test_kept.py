"""Which of a run's files stay: if one loses too much accuracy, and after a second call."""

import json
import re

import numpy as np
import pytest
from onnx import numpy_helper

from edgeclf import QuantizeOptions, quantize
from edgeclf.display.progress import show_progress
from edgeclf.errors import GateError, OutputError
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf.evaluation.logit_store import read_logits
from edgeclf.quantization.report import FlavorError, read_report
from edgeclf.quantization.search import Search
from edgeclf.training.runs import read_run


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
