"""What a notebook shows of a report: tables, escaped, and pictures."""

import builtins
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import edgeclf
from edgeclf.display.report import Report
from edgeclf.errors import DependencyError
from tests.support.html_pages import Page

NASTY = "<b>cats & dogs</b>"


@dataclass(frozen=True)
class Example(Report):
    """A report with a field of each kind."""

    path: str
    size: int
    share: float
    tiny: float
    done: bool
    nothing: tuple[str, ...]
    sha256: str
    labels: tuple[str, ...]
    counts: dict[str, int]
    table: dict[str, dict[str, float]]
    notes: tuple[str, ...]


EXAMPLE = Example(
    path="runs/<i>first</i>",
    size=3_800_000,
    share=0.123456,
    tiny=5.3e-6,
    done=True,
    nothing=(),
    sha256="ab" * 32,
    labels=(NASTY, "犬\n\x1b"),
    counts={"train": 3, NASTY: 4},
    table={"fp32": {"size": 13_500_000, "accuracy": 0.9}, NASTY: {"size": 1, "accuracy": 1.0}},
    notes=(f"a long sentence about {NASTY}, which does not fit into a cell of a table beside others",),
)


def test_a_report_becomes_tables_of_its_facts():
    page = Page(EXAMPLE._repr_html_())
    assert page.rows == [
        ["path", "runs/<i>first</i>"],
        ["size", "3.8 MB"],
        ["share", "0.1235"],
        ["tiny", "5.3e-06"],
        ["done", "yes"],
        ["sha256", "abababababab"],
        ["labels", f"{NASTY}, 犬\ufffd\ufffd"],
        ["counts", f"train 3, {NASTY} 4"],
        ["", "size", "accuracy"],
        ["fp32", "13.5 MB", "0.9000"],
        [NASTY, "0.0 MB", "1.0000"],
    ]
    assert f"sentence about {NASTY}" in page.words


def test_nothing_of_the_users_becomes_html():
    text = EXAMPLE._repr_html_()
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;cats &amp; dogs&lt;/b&gt;" in text


def test_json_is_what_it_was():
    assert json.loads(EXAMPLE.to_json()) == json.loads(json.dumps(EXAMPLE.to_dict()))


@pytest.fixture(scope="module")
def evaluation(usual_run, digits):
    return edgeclf.evaluate(usual_run, digits)


def test_an_evaluation_shows_its_confusions_with_shares_as_shades(evaluation):
    named = replace(evaluation, labels=(NASTY, "5", "8"))
    page = Page(named._repr_html_())
    assert ["true \\ predicted", NASTY, "5", "8"] in page.rows
    assert [NASTY, *map(str, evaluation.confusion[0])] in page.rows
    assert f"accuracy {evaluation.accuracy:.4f}" in page.words
    assert "rgba(68, 119, 170, 0.6" in named._repr_html_()


def test_of_many_labels_the_most_frequent_confusions_are_shown(evaluation):
    labels = tuple(f"label {number}" for number in range(40))
    confusion = [[9 * (row == column) for column in range(40)] for row in range(40)]
    confusion[7][3] = 5
    many = replace(evaluation, labels=labels, confusion=tuple(map(tuple, confusion)))
    assert Page(many._repr_html_()).rows[-1] == ["label 7", "label 3", "5"]


def test_a_check_shows_labels_and_findings(digits):
    report = edgeclf.check(digits)
    page = Page(report._repr_html_())
    assert ["label", "train", "val", "test"] in page.rows
    assert [row[1] for row in page.rows if row[0] == "warning"] == [finding.kind for finding in report.findings]


def test_a_quantization_shows_each_file_and_its_warnings(run):
    from edgeclf.quantization.report import read_report

    report = replace(read_report(run), warnings=("few images",))
    page = Page(report._repr_html_())
    assert [row[0] for row in page.rows] == ["file", "fp32", *(file.name for file in report.files)]
    assert "warning: few images" in page.words


def test_predictions_are_one_table(run, digits):
    predictions = edgeclf.predict(run, [digits / "3" / "000.png", digits / "8" / "000.png"])
    page = Page(predictions._repr_html_())
    assert [row[1] for row in page.rows] == ["label", "3", "8"]
    assert "confidence" in Page(predictions[0]._repr_html_()).words


def words(figure):
    from matplotlib.text import Text

    return {text.get_text() for text in figure.findobj(Text)}


FACTS = {
    "CheckReport": (
        "photos",
        30,
        {NASTY: {"train": 12, "val": 3, "test": 5}, r"$\c$": {"train": 10, "val": 0, "test": 0}},
        (),
    ),
    "CalibrateReport": ("set", "random", 20, {NASTY: 12, r"$\c$": 8}, "ab" * 32),
    "ExportReport": ("run/model.fp32.onnx", 13, 13_500_000, "ab" * 32, 8, False, 3e-6),
    "ImportReport": ("run", "m.onnx", ("a", "b"), {}, "", True, 3e-6, 8, 0.9, 40, {"--color BGR --range 0-1": 0.5}),
    "MakeReport": ("pets.edge", "run", "0123", 0.91, "test", 45, ("train",), {"train": 3.2, "bundle": 1.0}),
    "BundleReport": ("pets.edge", "0123", ("fp32",), 9, 10, {}, {}, ()),
    "DemoReport": (
        "demo",
        0.9,
        0.89,
        0.88,
        0.87,
        100,
        13_500_000,
        3_800_000,
        {"fp32": {"p50": 1.0}, "int8-cpu": {"p50": 0.5}},
        {},
        {"train": 3.0},
        900,
        "0123",
    ),
    "BuildReport": ("10.3", "a GPU", (), {}, None, "folder", ""),
}


@pytest.mark.parametrize(
    "name", [name for name in edgeclf.__all__ if name.endswith("Report")] + ["Evaluation", "Prediction"]
)
def test_every_report_has_tables_and_a_figure_of_its_own(name):
    kind = getattr(edgeclf, name)
    assert issubclass(kind, Report)
    assert kind.plot is not Report.plot or kind.bars is not Report.bars
    if name in FACTS:
        report = kind(*FACTS[name])
        assert Page(report._repr_html_()).words
        assert report.plot()._repr_png_().startswith(b"\x89PNG")
        assert all(list(chart.values) for chart in report.bars()) or name in ("BundleReport", "BuildReport")


def test_a_check_is_drawn_as_its_images_by_label_and_split():
    figure = edgeclf.CheckReport(*FACTS["CheckReport"]).plot()
    assert [axis.get_xlabel() for axis in figure.axes] == ["images of train", "images of val", "images of test"]
    assert {NASTY, r"$\c$", "12", "0"} <= words(figure)


def test_a_learning_curve_is_drawn_with_what_twice_the_images_would_bring():
    from edgeclf.training.results.learning_curve import LearningCurve, Step

    steps = tuple(Step(size, 0.8 + size / 1000, 0.79, 0.95) for size in (10, 20, 40, 80))
    curve = LearningCurve(steps, ((10, 0.8), (160, 0.93)), 160, 0.05, (0.01, 0.09), 40)
    assert "about +5.0 points" in str(curve)
    assert Page(curve._repr_html_()).words
    assert {"+5.0% by twice the images", "measured", "fitted"} <= words(curve.plot())


def test_a_prediction_and_a_contact_sheet_are_drawn(run, digits, tmp_path):
    (found,) = edgeclf.predict(run, digits / "3" / "000.png")
    assert {"3", "5", "8"} <= words(found.plot())
    report = edgeclf.augment(digits, tmp_path / "sheet.png", image_size=64, augment="inspection")
    assert report.plot()._repr_png_().startswith(b"\x89PNG")


def test_an_evaluation_is_drawn_as_its_confusion_matrix(evaluation):
    figure = replace(evaluation, labels=(r"$\cat$", "5", "8")).plot()
    assert {r"$\cat$", f"fp32: accuracy {evaluation.accuracy:.2%}, 45 images"} <= words(figure)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_training_is_drawn_as_its_curves():
    history = tuple(
        {"epoch": epoch, "loss": 1 / (1 + epoch), "val_loss": 0.5, "val_accuracy": 0.9, "val_macro_f1": 0.8}
        for epoch in range(3)
    )
    report = edgeclf.TrainReport("run", ("a", "b"), {"train": 9}, 3, {}, (), history=history)
    left, right = report.plot().axes
    assert [line.get_label() for line in (*left.lines, *right.lines)] == [
        "train",
        "val",
        "val accuracy",
        "val macro F1",
    ]
    assert list(left.lines[0].get_ydata()) == [1, 0.5, 1 / 3]


def test_a_quantization_is_drawn_as_drop_size_and_latency(run):
    from edgeclf.quantization.report import read_report

    report = read_report(run)
    found = words(report.plot())
    assert {"fp32", *(file.name for file in report.files)} <= found
    assert {f"{file.size / 1e6:.1f}" for file in report.files} <= found
    assert {"-" if file.fp32_ms is None else f"{file.latency_ms:.2f}" for file in report.files} <= found


def test_a_bundle_is_drawn_as_accuracy_size_and_labels_that_are_kept():
    from edgeclf.deployment.bundling import ModelFacts

    facts = {"int8-cpu": ModelFacts(3_800_000, 0.91, 1.0, 0.8, 0.75, 0.99, {}, None, None)}
    report = edgeclf.BundleReport("pets.edge", "0123", ("int8-cpu",), 9, 10, facts, {}, ())
    assert {"int8-cpu", "91.00%", "3.8", "75.0%"} <= words(report.plot())


def test_formats_are_drawn_beside_the_reference():
    from edgeclf.deployment.formats.export import FormatRow

    rows = (
        FormatRow("onnx", "model.onnx", 13_500_000, latency_ms=1.42),
        FormatRow("coreml", "model.mlpackage", 7_000_000, note="not run here"),
        FormatRow("litert", "model.tflite", problem="its logits differ"),
    )
    report = edgeclf.FormatsReport("run", "torch", 9.75, 8, False, 2, 15, "a CPU", rows)
    found = words(report.plot())
    assert {"torch", "9.75", "onnx", "1.42", "13.5", "coreml", "not run", "7.0"} <= found
    assert "litert" not in found


def test_an_audit_is_drawn_as_its_findings_by_split():
    from edgeclf.evaluation.audit.report import AuditedImage, ConfusedLabels

    wrong = tuple(
        AuditedImage(f"{number}.jpg", split, "cat") for number, split in enumerate(("train", "train", "test"))
    )
    report = edgeclf.AuditReport(
        output="audit",
        data="photos",
        images={"train": 8, "val": 1, "test": 2},
        labels=("cat", "$x_1$"),
        network="a backbone",
        wrong_labels=wrong,
        conflicts=(wrong[:2],),
        duplicates=(),
        outliers=(),
        confused=(ConfusedLabels("cat", "$x_1$", 7, 0.1),),
        small=(),
        image_size=224,
        unreadable=(),
        not_judged={},
    )
    found, taken = report.plot().axes
    assert [patch.get_width() for patch in found.containers[0]] == [2, 2, 0, 0, 0, 0]
    assert [patch.get_width() for patch in found.containers[2]] == [1, 0, 0, 0, 0, 0]
    assert {"cat as $x_1$", "7"} <= words(taken.figure)
    assert replace(report, confused=()).plot()._repr_png_().startswith(b"\x89PNG")


def test_the_documentation_says_which_reports_are_drawn():
    text = (Path(__file__).parents[2] / "docs" / "api-host.md").read_text(encoding="utf-8")
    drawn = [name for name in edgeclf.__all__ if hasattr(getattr(edgeclf, name), "plot")]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == drawn


def test_without_matplotlib_a_plot_says_how_to_install_it(evaluation, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DependencyError, match=r"plots need matplotlib.* python3 -m pip install matplotlib"):
        evaluation.plot()


@dataclass(frozen=True)
class Measured(Report):
    """A report with numbers that JSON lacks."""

    loss: float
    rows: tuple[dict[str, float], ...]


def test_a_number_that_is_not_finite_is_null_in_json():
    report = Measured(float("nan"), ({"drop": float("inf"), "accuracy": 0.5},))
    assert json.loads(report.to_json()) == {"loss": None, "rows": [{"drop": None, "accuracy": 0.5}]}
