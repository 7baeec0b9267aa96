"""The page of quantize shows what its report says, safely and without another host."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgeclf.evaluation.comparison import compare
from edgeclf.graph.int8.histograms import Histogram
from edgeclf.graph.int8.ranges import METHODS
from edgeclf.quantization.html_page import make_page
from edgeclf.quantization.plots import time_chart
from edgeclf.quantization.report import (
    Baseline,
    Conditions,
    FailedFlavor,
    Findings,
    FloatLayer,
    FormTrial,
    QuantizedFile,
    QuantizeReport,
    Trial,
    read_report,
)
from edgeclf.quantization.sensitivity import LayerEffect, LayerNoise
from edgeclf.targets import FLAVORS
from tests.support.html_pages import OUTSIDE, Page

CONDITIONS = Conditions(
    calibration_images=40, calibration_sha256="c" * 64, judged_images=60, trained_images=0, options={}
)


@pytest.fixture(scope="module")
def page(run):
    return Page((run / "quantization.html").read_text(encoding="utf-8"))


@pytest.fixture
def report():
    """One that no run gives without trouble: a baseline, and a layer back in float."""
    labels, truth = ("<b>", "$x_1$", "été\n\x07", "犬"), np.arange(60) % 4
    right = np.eye(4, dtype=np.float32)[truth]
    found = right.copy()
    found[:3] = np.roll(found[:3], 1, axis=1)
    comparison = compare(labels, truth, right, found)
    findings = Findings(
        method="mse",
        trials=tuple(Trial(comparison=comparison, method=method, size=2_400_000) for method in METHODS),
        float_layers=("/<i>stem/Conv",),
        fallback=(FloatLayer(layer="/<i>stem/Conv", size=70_400, latency_ms=-0.31),),
        noise=(LayerNoise("/<i>stem/Conv", 11.25), LayerNoise("/head/Gemm", 31.5)),
        effects=(LayerEffect("/<i>stem/Conv", 7.75, 0.125, 0.8125),),
    )
    file = QuantizedFile(
        comparison=comparison,
        findings=findings,
        name="int8-cpu",
        path="a&b/model.int8-cpu.onnx",
        size=2_500_000,
        sha256="f" * 64,
        latency_ms=3.25,
        layers=9,
        conditions=CONDITIONS,
    )
    return QuantizeReport(
        run="a&b",
        calibration_images=40,
        calibration_sha256="c" * 64,
        judged_images=60,
        max_drop=0.05,
        accuracy_fp32=1.0,
        size_fp32=10_000_000,
        sha256_fp32="d" * 64,
        latency_fp32_ms=8.5,
        files=(file,),
        baseline=Baseline(comparison=comparison, name="plain", size=3_000_000, latency_ms=4.5),
    )


@pytest.fixture
def histograms():
    values = np.random.default_rng(0).normal(size=4096).astype(np.float32)
    histogram = Histogram()
    histogram.add(values, 0)
    return {"/<i>stem/Conv": histogram, "/head/Gemm": histogram}


def test_the_page_has_a_row_for_every_file_and_method_with_the_reports_figures(run, page):
    report = json.loads((run / "quantization.json").read_text())
    for file in report["files"]:
        rows = {row[1]: row for row in page.rows if row[0] == file["name"]}
        methods = [trial["method"] for trial in file["trials"]] or [file["method"]]
        assert [name.strip(" ✓") for name in rows] == methods
        [kept] = [row for name, row in rows.items() if name.endswith("✓")]
        assert kept[1].strip(" ✓") == file["method"]
        assert kept[4:6] == [f"{file['accuracy']:.4f}", f"{file['drop']:+.4f}"]
        assert kept[-1] == ("-" if file["fp32_ms"] is None else f"{file['latency_ms']:.2f}")
        assert any(row[1] == f"sha256 {file['sha256']}" for row in page.rows)
    assert {row[0] for row in page.rows} >= {*FLAVORS, "fp32", "onnxruntime", "processor"}
    assert f"{report['calibration_images']} calibration images" in page.words
    assert "accepted 0.2 of FP32's accuracy" in page.words


def test_the_page_asks_nothing_of_another_host_and_runs_nothing(run):
    text = (run / "quantization.html").read_text(encoding="utf-8")
    assert OUTSIDE.findall(text) == []
    assert len(text) < 1_000_000


def test_the_pictures_show_files_labels_and_the_noisiest_layers(run, page):
    drops, recalls, *layers = page.figures
    assert {*FLAVORS, "accepted: 0.2"} <= set(drops)
    assert {*FLAVORS, "3", "5", "8"} <= set(recalls)
    activations = [word for words in layers for word in words]
    file = json.loads((run / "quantization.json").read_text())["files"][0]
    assert set(METHODS) <= set(activations)
    for row in file["noise"][:6]:
        assert f"{row['snr_db']:.1f} dB" in activations
        assert any(word.endswith(row["layer"][-28:]) for word in activations)


def test_the_noisiest_layers_of_each_file_are_listed_with_their_noise(run, page):
    noisy = [file for file in json.loads((run / "quantization.json").read_text())["files"] if file["noise"]]
    for place, file in enumerate(noisy):
        for row in file["noise"][:15]:
            assert any(
                cells[0] == row["layer"] and cells[1 + place].endswith(f"{row['snr_db']:.1f}")
                for cells in page.rows
                if len(cells) == 1 + len(noisy)
            )


@pytest.mark.slow
@pytest.mark.filterwarnings("error::UserWarning")
def test_names_that_are_markup_or_formulas_are_shown_as_they_are(report, histograms):
    page = Page(make_page(report, histograms))
    labels = {"<b>", "$x_1$", "été\ufffd\ufffd", "犬"}
    assert {*labels, "/<i>stem/Conv", "a&b/model.int8-cpu.onnx"} <= {row[0] for row in page.rows}
    assert labels <= set(page.figures[1])
    assert "/<i>stem/Conv" in page.figures[2]


@pytest.mark.slow
def test_layers_back_in_float_are_shown_with_what_each_cost(report, histograms):
    page = Page(make_page(report, histograms))
    assert "int8-cpu with 1 of 9 layers back in float" in page.words
    assert ["/<i>stem/Conv", "7.8", "+0.1250", "0.8125"] in page.rows
    assert ["/<i>stem/Conv", "+70", "-0.31"] in page.rows
    methods = [row[1] for row in page.rows if row[0] == "int8-cpu"]
    assert methods == [*METHODS, "mse, layers in float: 1 ✓"]
    # Its noise is from when it was in INT8.
    assert ["/<i>stem/Conv", "11.2"] in page.rows


@pytest.mark.slow
def test_the_baseline_stands_in_the_table(report, histograms):
    rows = {row[0]: row for row in Page(make_page(report, histograms)).rows}
    assert rows["plain"][1:4] == ["(for comparison)", "3.00 MB", "30.0%"]
    assert "plain" not in Page(make_page(replace(report, baseline=None), histograms)).words


def test_a_page_of_a_file_without_qdq_has_no_layers(report):
    fp16 = replace(report.files[0], name="fp16", findings=Findings())
    page = Page(make_page(replace(report, files=(fp16,)), {}))
    assert len(page.figures) == 2
    assert [row[1] for row in page.rows if row[0] == "fp16"] == ["✓"]


def test_drops_that_are_equal_are_one_number(report):
    [file] = report.files[:1]
    drop = f"{file.comparison.drop:+.4f}"
    page = make_page(replace(report, files=(file, replace(file, name="fp16"))), {})
    assert f"every drop is {drop}" in page
    assert "the drop ranges" not in page
    assert f"the drop is {drop}" in make_page(replace(report, files=(file,)), {})


def test_no_axis_of_accuracy_goes_beyond_all(report):
    chart = time_chart(replace(report, accuracy_fp32=1.0))
    assert chart.y.high == 1.0


def test_a_flavor_that_did_not_pass_is_shown_with_its_reason_and_a_warning(report, histograms):
    failed = FailedFlavor(name="fp16", reason="fp16 lost <too> much", conditions=CONDITIONS)
    found = replace(report, failed=(failed,), warnings=("few images",))
    page = Page(make_page(found, histograms))
    assert ["fp16", "fp16 lost <too> much"] in page.rows
    assert "Warning: few images." in page.words
    assert "fp16: not written; fp16 lost <too> much" in str(found)


def test_the_page_of_a_run_without_a_file_that_passed_says_so(report):
    failed = FailedFlavor(name="int8-cpu", reason="it lost too much", conditions=CONDITIONS)
    page = Page(make_page(replace(report, files=(), failed=(failed,)), {}))
    assert "No file was written" in page.words
    assert ["int8-cpu", "it lost too much"] in page.rows


def test_a_file_of_an_earlier_call_is_told_apart(report, histograms):
    other = replace(CONDITIONS, calibration_sha256="e" * 64, calibration_images=7, judged_images=50)
    earlier = replace(report.files[0], name="fp16", findings=Findings(), conditions=other)
    found = replace(report, files=(report.files[0], earlier))
    assert "fp16: made by an earlier call, from 7 calibration images" in Page(make_page(found, histograms)).words
    assert "fp16: of an earlier call, compared on 50 images; 7 calibration images" in str(found)
    assert "int8-cpu: of an earlier call" not in str(found)


@pytest.mark.parametrize("size", [1_000, 99_000_000])
def test_the_table_fits_80_columns(report, size):
    files = tuple(
        replace(report.files[0], name=name, size=size, findings=Findings(method=method), latency_ms=999.94)
        for name, method in zip(FLAVORS, (*METHODS, "minmax", ""), strict=True)
    )
    lines = str(replace(report, files=files, size_fp32=100_000_000)).splitlines()
    assert max(map(len, lines[: len(files) + 3])) <= 80


def test_a_file_that_is_slower_than_fp32_here_says_so_if_it_was_timed_here(report):
    forms = (FormTrial(form="standard", latency_ms=9.0, size=1, kept=True),)
    slow = replace(
        report.files[0],
        latency_ms=1.2 * report.latency_fp32_ms,
        fp32_ms=report.latency_fp32_ms,
        findings=Findings(method="mse", forms=forms),
    )
    assert "int8-cpu: slower than fp32 on this machine" in str(replace(report, files=(slow,)))
    for other in (replace(slow, latency_ms=report.latency_fp32_ms), replace(slow, fp32_ms=None)):
        assert "slower than fp32" not in str(replace(report, files=(other,)))


def test_a_report_read_back_is_the_same(run, tmp_path):
    report = read_report(run)
    assert json.loads(report.to_json()) == json.loads((run / "quantization.json").read_text())
    (tmp_path / "quantization.json").write_text(report.to_json(), encoding="utf-8")
    assert read_report(tmp_path) == report
    assert read_report(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.pop("size_fp32"), "'size_fp32' is missing"),
        (lambda facts: facts["files"][0].update(size="large"), "int was expected"),
        (lambda facts: facts["files"][0].pop("conditions"), "'conditions' is missing"),
        (lambda facts: facts["files"][0].update(drop_interval=[0.1]), "shorter"),
        (lambda facts: facts.update(files=7), "list was expected"),
    ],
)
def test_a_damaged_report_is_refused(run, tmp_path, change, message):
    facts = json.loads((run / "quantization.json").read_text())
    change(facts)
    (tmp_path / "quantization.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_report(tmp_path)


def test_a_figure_that_is_not_finite_is_null_in_json(report):
    comparison = replace(report.files[0].comparison, divergence=float("nan"))
    found = replace(report, files=(replace(report.files[0], comparison=comparison),))
    assert json.loads(found.to_json(), parse_constant=pytest.fail)["files"][0]["divergence"] is None


@pytest.mark.slow
def test_of_many_labels_those_that_change_most_are_shown(report, histograms):
    drops = {f"label {number}": number / 100 for number in range(30)}
    comparison = replace(report.files[0].comparison, drop_by_label=drops)
    page = Page(make_page(replace(report, files=(replace(report.files[0], comparison=comparison),)), histograms))
    assert "the 20 of 30 labels that change most" in page.words
    assert [row[0] for row in page.rows if row[0].startswith("label ")] == [f"label {n}" for n in range(10, 30)]
