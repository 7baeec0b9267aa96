"""Two models on the same images: figures worked out by hand, and real models."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

import edgeclf
from edgeclf.data.datasets import Sample
from edgeclf.errors import DataError, ModelError, OptionError
from edgeclf.evaluation.comparison import mcnemar, paired_interval
from edgeclf.evaluation.two_models.compare import _difference
from edgeclf.evaluation.two_models.report import CompareReport, Side
from edgeclf.evaluation.two_models.significance import enough_images, mid_p
from tests.support.foreign import color_model, write_photos

SIDE = Side("runs/first", "fp32", "onnxruntime", 0.9, (0.85, 0.93), 0.9, 0.02, 13_500_000, 5.0)


@pytest.mark.parametrize(
    ("lost", "won", "exact", "mid"),
    # Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13, tables 1 and 2.
    [(1, 7, 0.0703, 0.0391), (6, 16, 0.0525, 0.0347)],
)
def test_the_p_values_are_those_of_the_published_examples(lost, won, exact, mid):
    assert mcnemar(lost, won) == pytest.approx(exact, abs=5e-5)
    assert mid_p(lost, won) == mid_p(won, lost) == pytest.approx(mid, abs=5e-5)


def test_equal_models_have_no_evidence_against_them():
    assert mid_p(0, 0) == 1
    # Fagerland et al. give 1 - f / 2, f the probability of the observation: 2 of 4 is 6 of 16.
    assert mid_p(2, 2) == pytest.approx(1 - 6 / 16 / 2)


def test_the_number_of_images_is_enough_4_times_in_5():
    random = np.random.default_rng(0)
    images = enough_images(3, 9, 300)  # one point and three, of which two is the difference
    assert 400 < images < 1000
    draws = random.multinomial(images, [0.01, 0.03, 0.96], 1000)
    shown = [
        mid_p(int(lost), int(won)) < 0.05 and paired_interval(int(won), int(lost), images)[0] > 0
        for lost, won, _ in draws
    ]
    assert 0.72 < np.mean(shown) < 0.9


def test_without_a_difference_the_number_is_that_for_one_point():
    assert enough_images(0, 0, 100) == enough_images(1, 0, 100)
    assert 700 < enough_images(0, 0, 100) < 900


def made(lost, won, images):
    """A report of two models, of which only A is right on ``lost`` images and only B on ``won``."""
    truth = np.zeros(images, int)
    a, b = truth.copy(), truth.copy()
    a[:won] = 1
    b[won : won + lost] = 1
    samples = [Sample(f"{number}.png", "cat") for number in range(images)]
    return CompareReport(
        a=SIDE,
        b=SIDE,
        data="photos",
        split="test",
        images=images,
        **_difference([a, b], samples, truth, ["cat", "dog"]),
    )


def test_the_verdict_says_which_is_better_and_by_how_much():
    report = made(12, 31, 655)
    low, high = paired_interval(31, 12, 655)
    assert report.better == "b"
    assert report.verdict == (
        f"B is better by 2.9 points (95 %: {100 * low:.1f} to {100 * high:.1f}); 31 images changed from wrong to right, 12 from "
        "right to wrong"
    )


def test_the_comparison_is_symmetrical():
    one, other = made(12, 31, 655), made(31, 12, 655)
    assert (one.better, other.better) == ("b", "a")
    assert one.difference == -other.difference
    assert one.difference_interval == pytest.approx([-end for end in reversed(other.difference_interval)])
    assert (one.p_value, one.mid_p_value, one.enough_images) == (other.p_value, other.mid_p_value, other.enough_images)
    assert one.agreement == other.agreement
    assert {(found.image, found.a, found.b) for found in one.differing} != set()
    assert "A is better by 2.9 points" in other.verdict


def test_what_cannot_be_shown_is_not_claimed():
    report = made(3, 4, 100)
    assert report.better is None
    assert report.verdict.startswith("no difference can be shown with 100 images (B minus A: +1.0 points, 95 %: -")
    assert f"about {report.enough_images} images would be needed to show 1.0 points" in report.verdict


def test_models_that_are_right_on_the_same_images_are_said_to_be():
    assert "both are right on the same images" in made(0, 0, 50).verdict


def test_ratios_are_of_what_was_measured():
    report = replace(made(1, 2, 50), b=replace(SIDE, size=3_800_000, latency_ms=None))
    facts = json.loads(report.to_json())
    assert facts["size_ratio"] == pytest.approx(3.8 / 13.5)
    assert facts["latency_ms_ratio"] is None
    assert next(line for line in str(report).splitlines() if line.startswith("size")).split()[-1] == "0.28"


@pytest.fixture(scope="module")
def report(run, digits):
    return edgeclf.compare(run, run, digits, name_b="int8-cpu")


def test_both_models_have_the_figures_of_evaluate(report, run, digits):
    for side, name in ((report.a, "fp32"), (report.b, "int8-cpu")):
        found = edgeclf.evaluate(run, digits, name=name)
        assert (side.model, side.accuracy, side.macro_f1) == (name, found.accuracy, found.macro_f1)
        assert side.size == (run / f"model.{name}.onnx").stat().st_size
        assert side.latency_ms > 0
    assert report.images == 45
    assert len(report.differing) == round((1 - report.agreement) * 45)


def test_text_table_and_picture_show_the_verdict(report):
    assert max(map(len, str(report).splitlines()[3:11])) <= 80
    assert " ".join(str(report).split()).endswith(" ".join(report.verdict.split()))
    assert report.verdict in report._repr_html_()
    assert "B minus A" in report.plot().axes[1].get_title()


def test_a_model_compared_with_itself_differs_nowhere(run, bundle, digits):
    found = edgeclf.compare(run / "model.fp32.onnx", bundle, digits, name_b="fp32", skip_timing=True)
    assert (found.differing, found.agreement, found.better) == ((), 1.0, None)
    assert (found.a.latency_ms, found.b.latency_ms) == (None, None)


def change_labels(model, target, rename):
    """Copy an ONNX file with other names of its labels, in another order if ``rename`` says so."""
    changed = onnx.load(model)
    facts = json.loads(changed.metadata_props[0].value)
    facts["labels"] = rename(facts["labels"])
    changed.metadata_props[0].value = json.dumps(facts)
    onnx.save(changed, target)
    return target


def test_the_same_labels_in_another_order_are_matched_by_name(run, digits, tmp_path):
    model = change_labels(run / "model.fp32.onnx", tmp_path / "model.onnx", lambda labels: labels)
    turned = change_labels(model, tmp_path / "turned.onnx", lambda labels: [*labels[1:], labels[0]])
    found = edgeclf.compare(model, turned, digits, split="all", skip_timing=True)
    # Its answers are those of the model, by other names, so each image gets two different labels.
    assert found.agreement == 0
    assert found.b.accuracy == pytest.approx(edgeclf.evaluate(turned, digits, split="all").accuracy)


def test_other_labels_are_refused(run, digits, tmp_path):
    model = run / "model.fp32.onnx"
    other = change_labels(model, tmp_path / "other.onnx", lambda labels: [labels[0], "6", labels[2]])
    with pytest.raises(
        ModelError, match=r"have different labels, .*: only .*fp32.onnx has 5; only .*other.onnx has 6: comp"
    ):
        edgeclf.compare(model, other, digits)


def test_images_that_either_was_trained_on_are_left_out(run, digits, tmp_path):
    other = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("model.int8*", "*.npz"))
    lines = (other / "split.csv").read_text().splitlines()
    # As if the other run had been trained on what this one was tested with, and the reverse.
    swap = {"train": "test", "test": "train"}
    rows = [line.split(",") for line in lines]
    at = rows[0].index("split")
    rows = [rows[0], *([*row[:at], swap.get(row[at], row[at]), *row[at + 1 :]] for row in rows[1:])]
    (other / "split.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    with pytest.raises(DataError, match=r"no image of .* may be used for both models"):
        edgeclf.compare(run, other, digits)
    found = edgeclf.compare(run, other, digits, split="all", skip_timing=True)
    assert found.images == 12
    assert found.left_out == 180 - 12


def test_the_command_shows_the_report_and_its_progress(command, run, digits):
    code, out, err = command("compare", run, run, digits, "--name-b", "torch", "--json")
    facts = json.loads(out)
    assert (code, facts["a"]["backend"], facts["b"]["backend"]) == (0, "onnxruntime", "torch")
    assert facts["b"]["size"] is None
    assert "timing: 6 in" in err


def test_the_time_of_a_file_for_another_device_is_not_given(run, digits):
    found = edgeclf.compare(run, run, digits, name_b="int8-tensorrt")
    assert (found.a.latency_ms is None, found.b.latency_ms) == (False, None)


def test_imported_models_are_tested_and_compared_but_not_attacked(tmp_path):
    write_photos(tmp_path / "photos", 20)
    color_model(tmp_path / "it.onnx", size=64)
    options = {"label_names": ("cat", "dog"), "color": "RGB", "resize": "crop", "range": "0-1", "mean": "0", "std": "1"}
    edgeclf.import_model(tmp_path / "it.onnx", tmp_path / "run", data=tmp_path / "photos", **options)
    data = tmp_path / "photos"
    found = edgeclf.compare(tmp_path / "run", tmp_path / "run" / "model.fp32.onnx", data)
    assert (found.a.accuracy, found.better, found.a.size) == (1, None, found.b.size)
    colors = edgeclf.robustness(tmp_path / "run", data, corruptions=("color-cast",)).corruptions["color-cast"]
    assert colors.accuracy[0] > colors.accuracy[4]  # its labels are colors
    with pytest.raises(OptionError, match="has none, since it was imported as ONNX: measure the corruptions only"):
        edgeclf.robustness(tmp_path / "run", data, adversarial=True)
