"""What a notebook shows of a report: tables, escaped, and pictures."""

import builtins
import json
from dataclasses import dataclass, replace

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
def evaluation(run, digits):
    return edgeclf.evaluate(run, digits)


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
    assert {f"{file.latency_ms:.2f}" for file in report.files} <= found


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
