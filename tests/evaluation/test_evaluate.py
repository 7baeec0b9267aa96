"""Accuracy, F1 and confusions, compared with scikit-learn's, on the images that they say they are of."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix

import edgeclf
from edgeclf.data.datasets import Sample, load_dataset
from edgeclf.display import progress
from edgeclf.display.prediction_file import prediction_file
from edgeclf.errors import DataError, ImageError, OptionError, OutputError
from edgeclf.evaluation.evaluate import measure
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf.evaluation.image_selection import select_images
from edgeclf.evaluation.open_model import open_model
from edgeclf.options import SplitOptions
from edgeclf.training.runs import read_run
from edgeclf_runtime.images.preprocess import Preprocessing
from tests.support.html_pages import Page
from tests.support.photos import only, write_photos

LABELS = ("cat", "dog", "emu", "fox")


def measured(truth, predicted, labels=LABELS):
    """Measure logits that say ``predicted`` of images that are ``truth``."""
    samples = [Sample(f"{number}.png", labels[index], "test") for number, index in enumerate(truth)]
    images = EvaluationSet(samples, tuple(labels), Preprocessing(8, 8))
    return measure("model", "known", "test", images, np.eye(len(labels), dtype=np.float32)[predicted])


def test_the_figures_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 300)
    predicted = np.where(random.random(300) < 0.7, truth, random.integers(0, 4, 300))
    report = classification_report(truth, predicted, target_names=LABELS, output_dict=True)
    found = measured(truth, predicted)
    assert found.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert found.macro_f1 == pytest.approx(report["macro avg"]["f1-score"])
    assert np.array_equal(found.confusion, confusion_matrix(truth, predicted))
    for label in LABELS:
        expected = [report[label][name] for name in ("precision", "recall", "f1-score", "support")]
        assert list(found.per_label[label].values()) == pytest.approx(expected)


def test_a_label_without_images_does_not_count_in_macro_f1():
    found = measured([0, 0, 1, 1], [0, 0, 1, 1])
    assert found.macro_f1 == 1.0
    assert found.per_label["fox"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "images": 0}


def test_the_text_shows_the_confusions_and_the_json_holds_them():
    found = measured([0, 0, 1], [0, 1, 1])
    assert ["cat", "1", "1", "0", "0"] in [line.split() for line in str(found).splitlines()]
    assert json.loads(found.to_json())["confusion"][0] == [1, 1, 0, 0]


def test_a_confusion_matrix_with_long_names_has_numbered_columns():
    found = measured([0, 0, 1], [0, 1, 1], labels=[f"a rather long name {number}" for number in range(9)])
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert ["1", "a", "rather", "long", "name", "0", "1", "1", *"0000000"] in [line.split() for line in lines]


@pytest.mark.parametrize("count", [2, 12, 40])
def test_long_names_are_cut_so_that_the_tables_fit_80_columns(count):
    labels = [
        f"{number} of a name that is longer than any table's column may ever be, and more" for number in range(count)
    ]
    found = measured([0, 0, 1], [0, 1, 1], labels=labels)
    assert max(map(len, str(found).splitlines())) <= 80
    assert labels[0] in found.to_json()


def test_many_labels_have_their_most_frequent_confusions_listed():
    found = measured([0, 0, 0, 1], [0, 7, 7, 3], labels=[f"label{number}" for number in range(100)])
    lines = [line.split() for line in str(found).splitlines()]
    assert [line for line in lines if line[1:2] in (["label7"], ["label3"])] == [
        ["label0", "label7", "2"],
        ["label1", "label3", "1"],
    ]


@pytest.fixture
def model(run):
    return run / "model.fp32.onnx"


def test_a_model_is_measured_on_the_images_that_training_held_out(model, digits):
    found = edgeclf.evaluate(model, digits)
    assert (found.split, found.images) == ("test", 45)
    assert found.accuracy > 0.8
    assert found.logits.shape == (45, 3)


def read_rows(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_predictions_are_written_as_a_row_for_each_image(model, digits, tmp_path):
    file = tmp_path / "predictions.csv"
    found = edgeclf.evaluate(model, digits, predictions=file)
    rows = read_rows(file)
    assert list(rows[0]) == ["path", "label", "predicted", "confidence", "reason", "distance"]
    assert [row["path"] for row in rows] == [str(path) for path in found.paths]
    assert [row["label"] for row in rows] == [path.parent.name for path in found.paths]
    right = [row["label"] == row["predicted"] for row in rows]
    assert np.mean(right) == pytest.approx(found.accuracy)
    assert all(1 / 3 < float(row["confidence"]) <= 1 for row in rows)
    before = file.read_bytes()
    with pytest.raises(OutputError, match=r"predictions\.csv exists: .* --overwrite"):
        edgeclf.evaluate(model, digits, predictions=file)
    assert file.read_bytes() == before
    edgeclf.evaluate(model, digits, predictions=file, overwrite=True)
    assert "paths" not in json.loads(found.to_json())


def test_a_name_that_is_a_formula_is_written_as_text(tmp_path):
    with prediction_file(tmp_path / "p.csv") as add:
        add("=1+1.png", "-cat", "dog", 0.5)
    assert read_rows(tmp_path / "p.csv") == [
        {
            "path": "'=1+1.png",
            "label": "'-cat",
            "predicted": "dog",
            "confidence": "0.500000",
            "reason": "",
            "distance": "",
        }
    ]


def test_predictions_of_a_failed_evaluation_are_not_left_half_written(model, digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    (photos / "8" / "059.png").write_text("no image")
    with pytest.raises(ImageError):
        edgeclf.evaluate(model, photos, split="all", predictions=tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.slow
def test_splits_can_be_chosen(model, digits):
    images = {split: edgeclf.evaluate(model, digits, split=split).images for split in ("train", "val", "all")}
    assert images == {"train": 123, "val": 12, "all": 57}
    with pytest.raises(OptionError, match="split is 'half'; test, val, train, all was expected"):
        edgeclf.evaluate(model, digits, split="half")


@pytest.mark.slow
def test_the_data_is_divided_as_for_training_whatever_the_seed_was(digits, tmp_path):
    options = edgeclf.TrainOptions(
        image_size=64, epochs=1, backbone="mobilenetv3_small_050", weights="none", seed=7, test=0.5
    )
    edgeclf.train(digits, tmp_path / "run", options)
    held_out = load_dataset(digits, options.split).split("test")
    assert edgeclf.evaluate(tmp_path / "run", digits).images == len(held_out) == 102


@pytest.mark.slow
def test_run_file_and_bundle_get_the_same_accuracy(run, bundle, digits):
    found = {
        edgeclf.evaluate(model, digits, name=name).accuracy
        for model, name in ((run, None), (run, "fp32"), (bundle, "fp32"))
    }
    assert len(found) == 1


def test_labels_that_the_model_does_not_know_stop_it_before_it_starts(model, digits, tmp_path):
    shutil.copytree(digits / "3", tmp_path / "nine")
    (tmp_path / "nine" / "bad.png").write_text("no image")
    with pytest.raises(
        DataError, match=r"has the labels nine, which the model does not know; it knows 3, 5, 8: rename"
    ):
        edgeclf.evaluate(model, tmp_path, split="all")


def test_a_missing_split_says_which_there_are(model, digits, tmp_path):
    shutil.copytree(digits, tmp_path / "train")
    with pytest.raises(DataError, match=r"no images in the split 'test'; it has train \(162\), val \(18\): choose one"):
        edgeclf.evaluate(model, tmp_path)


def test_a_folder_of_test_images_alone_is_measured_whole(model, digits, tmp_path):
    shutil.copytree(digits / "3", tmp_path / "test" / "3")
    assert edgeclf.evaluate(model, tmp_path).images == 60


@pytest.mark.slow
def test_undivided_images_are_not_halved_where_the_model_was_trained_on_divided_ones(digits, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(digits, tmp_path / "data" / split)
    options = edgeclf.TrainOptions(image_size=64, epochs=1, backbone="mobilenetv3_small_050", weights="none")
    edgeclf.train(tmp_path / "data", tmp_path / "run", options)
    with pytest.raises(
        DataError, match=r"is not divided into train, val and test as the data .*: evaluate all of it with --split all"
    ):
        edgeclf.evaluate(tmp_path / "run", digits)
    with pytest.raises(DataError, match=r"the model was trained on every image of .*: evaluate other images, or these"):
        edgeclf.evaluate(tmp_path / "run", digits, split="all")


def test_an_image_that_went_bad_is_named(model, digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    (photos / "3" / "000.png").write_bytes((digits / "3" / "000.png").read_bytes()[:100])
    with pytest.raises(ImageError, match=r"photos/3/000.png: "):
        edgeclf.evaluate(model, photos, split="all")
    found = edgeclf.evaluate(model, photos, split="all", skip_unreadable=True)
    assert (found.unreadable, json.loads(found.to_json())["unreadable"]) == (1, 1)
    assert "left out: 1 image that cannot be decoded" in str(found)


def test_all_never_counts_an_image_that_a_run_was_trained_on(run, digits, tmp_path):
    moved = tmp_path / "moved"
    for number, path in enumerate(sorted(digits.rglob("*.png"))):  # other names and places, the same labels
        (moved / path.parent.name / "deep").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, moved / path.parent.name / "deep" / f"{number}.png")
    write_photos(moved, ("3/new.png", "5/new.png"))
    found = edgeclf.evaluate(run, moved, split="all")
    assert (found.images, found.trained_on) == (57 + 2, 123)
    assert "left out: 123 images that the model was trained on" in str(found)
    assert edgeclf.evaluate(run, moved, split="train").trained_on == 0


def test_a_run_finds_its_test_images_again_after_others_were_lost(run, digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    tested = {sample.path.name for sample in read_run(run).dataset().split("test") if sample.label == "3"}
    for path in (photos / "3").iterdir():
        if path.name not in tested:
            path.unlink()
    found = edgeclf.evaluate(run, photos)  # an exact split of the remaining images would differ
    assert {path.name for path in found.paths if path.parent.name == "3"} == tested


def test_a_bundle_leaves_out_what_its_run_was_trained_on_if_the_data_is_the_same(bundle, run, digits, tmp_path, capfd):
    assert edgeclf.evaluate(bundle, read_run(run).dataset(), split="all", name="fp32").trained_on == 123
    progress.show_progress()
    try:
        shutil.copytree(digits, tmp_path / "photos")
        (tmp_path / "photos" / "3" / "000.png").unlink()
        assert edgeclf.evaluate(bundle, tmp_path / "photos", split="all", name="fp32").trained_on == 0
    finally:
        progress.show_progress(False)
    assert "does not record which images it was trained on" in capfd.readouterr().err


def test_a_file_without_its_run_leaves_them_out_too(run, tmp_path):
    shutil.copy(run / "model.fp32.onnx", tmp_path / "alone.onnx")
    found = edgeclf.evaluate(tmp_path / "alone.onnx", read_run(run).dataset(), split="all")
    assert (found.images, found.trained_on) == (57, 123)


def test_a_model_that_cannot_tell_says_how_many_images_it_may_have_been_trained_on(bundle, digits, tmp_path):
    """The digits have an exact split, in which no side is certain; by a hash, only those in train are in doubt."""
    shutil.copytree(digits, tmp_path / "photos")
    (tmp_path / "photos" / "3" / "000.png").unlink()
    with open_model(bundle, "fp32") as opened:
        chosen = select_images(opened, bundle, tmp_path / "photos", "all")
        assert "up to 179 of the 179 images" in only(chosen.findings, "perhaps-trained-on").message
        stable = replace(opened, split_options=SplitOptions())
        chosen = select_images(stable, bundle, tmp_path / "photos", "all")
        train = load_dataset(tmp_path / "photos").counts()["train"]
        assert f"up to {train} of the 179 images" in only(chosen.findings, "perhaps-trained-on").message
        assert only(chosen.findings, "perhaps-trained-on").message.endswith(", or the others with --split test")
        stable = replace(opened, split_options=None, split_sha256="")
        assert not [
            one for one in select_images(stable, bundle, digits, "all").findings if one.kind == "perhaps-trained-on"
        ]


def test_images_in_a_test_folder_that_were_trained_on_are_warned_of(run, digits, tmp_path, command):
    shutil.copytree(digits / "3", tmp_path / "test" / "3")
    code, out, err = command("evaluate", run, tmp_path)
    assert (code, "60 images" in out) == (0, True)
    assert "warning: the model was trained on 41 of the 60 images in test" in err.replace("45", "41")


def test_a_report_holds_the_figures_and_images_of_the_evaluation(run, digits, tmp_path, command):
    code, out, _ = command("evaluate", run, digits, "--report", tmp_path / "report", "--json")
    assert code == 0
    found, facts = json.loads(out), json.loads((tmp_path / "report" / "report.json").read_text())
    assert [found[name] for name in ("accuracy", "macro_f1", "images")] == [
        facts[name] for name in ("accuracy", "macro_f1", "images")
    ]
    rows = list(csv.DictReader((tmp_path / "report" / "predictions.csv").open()))
    assert len(rows) == found["images"]
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert facts["verdict"] in page.words
    wrong = [Path(row["path"]).name for row in rows if row["label"] != row["predicted"]]
    assert all(name in page.words for name in wrong[:12])
    assert page.images or not wrong
    code, _, err = command("evaluate", run, digits, "--report", tmp_path / "report")
    assert code == 1
    assert "exists and is not empty" in err


def test_a_report_is_no_data_set(run, digits, tmp_path):
    edgeclf.evaluate(run, digits, report=tmp_path / "report")
    with pytest.raises(DataError, match=r"report is an output of edgeclf \(it has report\.json\)"):
        edgeclf.load_dataset(tmp_path / "report")


def test_a_report_replaces_a_report_only(run, digits, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(OutputError, match=r"has no report\.json, so edgeclf did not create it"):
        edgeclf.evaluate(run, digits, report=tmp_path / "mine", overwrite=True)


@pytest.mark.parametrize(
    ("verb", "option"), [("evaluate", "--report"), ("evaluate", "--predictions"), ("predict", "--predictions")]
)
def test_a_taken_path_names_the_option_that_gave_it(run, digits, tmp_path, command, verb, option):
    (tmp_path / "taken").write_text("mine")
    image = digits if verb == "evaluate" else digits / "3" / "000.png"
    code, _, err = command(verb, run, image, option, tmp_path / "taken")
    assert (code, f"taken exists: choose another {option}" in err, "--output" in err) == (1, True, False)
    assert (tmp_path / "taken").read_text() == "mine"
