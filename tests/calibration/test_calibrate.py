import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeclf import CalibrateOptions, CalibrationSet, calibrate, load_dataset, train
from edgeclf.errors import DataError, ImageError, OptionError, OutputError
from edgeclf.graph.inference import infer
from edgeclf.training.runs import read_run


@pytest.fixture
def own_digits(digits, tmp_path):
    return Path(shutil.copytree(digits, tmp_path / "own"))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["stratified", "random", "diverse", "uncertain"])
def test_a_set_of_each_rule_is_written_and_holds_training_images_alone(digits, run, tmp_path, rule):
    report = calibrate(digits, tmp_path / "set", CalibrateOptions(size=30, rule=rule, model=str(run), force=True))
    chosen = CalibrationSet.load(tmp_path / "set").refuse_held_out(read_run(run).dataset())
    assert (len(chosen), chosen.recipe["rule"], chosen.sha256) == (30, rule, report.sha256)
    assert sum(report.per_label.values()) == 30


def test_uncertain_ranks_by_an_exported_file_though_the_run_has_none(own_run, digits, tmp_path, monkeypatch):
    options = CalibrateOptions(size=30, rule="uncertain", model=str(own_run), force=True)
    before = calibrate(digits, tmp_path / "before", options).sha256
    (own_run / "model.fp32.onnx").unlink()
    runners = []
    monkeypatch.setattr(
        "edgeclf.calibration.calibrate.infer", lambda runner, *rest: runners.append(runner) or infer(runner, *rest)
    )
    assert calibrate(digits, tmp_path / "after", options).sha256 == before
    assert [runner.backend for runner in runners] == ["onnxruntime"]


@pytest.mark.slow
def test_rules_choose_differently(digits, run, tmp_path):
    lists = {
        calibrate(digits, tmp_path / rule, CalibrateOptions(size=30, rule=rule, model=str(run), force=True)).sha256
        for rule in ("stratified", "random", "diverse", "uncertain")
    }
    assert len(lists) == 4


@pytest.mark.slow
def test_diverse_without_a_run_looks_by_the_packaged_backbone(own_digits, tmp_path):
    for path in sorted(own_digits.rglob("*.png"))[::2]:
        path.unlink()
    report = calibrate(own_digits, tmp_path / "set", CalibrateOptions(size=24, rule="diverse", force=True))
    assert report.images == 24


def test_few_images_of_a_label_are_refused_by_name(digits, tmp_path):
    with pytest.raises(DataError, match=r"fewer than 8 images of 3 \(4\), 5 \(4\), 8 \(4\).*--force"):
        calibrate(digits, tmp_path / "set", CalibrateOptions(size=12))
    assert not (tmp_path / "set").exists()
    assert calibrate(digits, tmp_path / "set", CalibrateOptions(size=12, force=True)).images == 12


def test_an_image_of_one_color_is_refused_by_name(own_digits, tmp_path):
    for number, path in enumerate(sorted(own_digits.rglob("*.png"))):
        cv2.imwrite(str(path), np.full((64, 64, 3), number, np.uint8))
    with pytest.raises(DataError, match=r"\.png has a single color"):
        calibrate(own_digits, tmp_path / "set", CalibrateOptions(size=60))


def test_a_set_leaves_training_images_to_evaluate_on(digits, tmp_path):
    train = load_dataset(digits).counts()["train"]
    assert calibrate(digits, tmp_path / "set", CalibrateOptions(size=1000)).images == train // 2


def test_a_set_is_not_overwritten_unasked(digits, tmp_path):
    calibrate(digits, tmp_path, CalibrateOptions(size=60))
    with pytest.raises(OutputError, match="pass --overwrite"):
        calibrate(digits, tmp_path, CalibrateOptions(size=30))
    calibrate(digits, tmp_path, CalibrateOptions(size=30), overwrite=True)
    assert len(CalibrationSet.load(tmp_path)) == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "best"}, "rule is 'best'; stratified, random, diverse, uncertain was expected"),
        ({"size": 0}, "1 or more was expected"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        CalibrateOptions(**options)


def test_uncertain_wants_a_model(digits, tmp_path):
    with pytest.raises(OptionError, match="add --model RUN"):
        calibrate(digits, tmp_path / "set", rule="uncertain")


def test_a_run_is_calibrated_with_its_own_images_split_and_seed(digits, tmp_path):
    train(digits, tmp_path / "run", seed=7, epochs=1, image_size=64, backbone="mobilenetv3_small_050", weights="none")
    report = calibrate(tmp_path / "run", tmp_path / "set", size=48)
    chosen = CalibrationSet.load(tmp_path / "set")
    assert chosen.recipe["seed"] == chosen.recipe["split"]["seed"] == 7
    own = read_run(tmp_path / "run").dataset()
    assert report.sha256 == CalibrationSet.select(own, 48, seed=7).sha256
    assert calibrate(digits, tmp_path / "by model", size=48, model=str(tmp_path / "run")).sha256 == report.sha256
    assert calibrate(tmp_path / "run", tmp_path / "other", size=48, seed=8).sha256 != report.sha256


def test_the_images_of_a_run_that_moved_are_found_by_content(run, digits, tmp_path):
    (tmp_path / "moved").mkdir()
    for path in digits.rglob("*.png"):  # other names, too
        (tmp_path / "moved" / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "moved" / path.parent.name / f"cell-{path.name}")
    here = calibrate(run, tmp_path / "here", size=60)
    there = calibrate(run, tmp_path / "there", data=str(tmp_path / "moved"), size=60)
    hashes = [[digest for digest, _ in CalibrationSet.load(report.path).entries] for report in (here, there)]
    assert sorted(hashes[0]) == sorted(hashes[1])
    shutil.rmtree(tmp_path / "moved")
    with pytest.raises(DataError, match="name the folder that has them now with --data"):
        CalibrationSet.load(there.path)
    assert sorted(digest for digest, _ in CalibrationSet.load(there.path, digits).entries) == sorted(hashes[0])
    with pytest.raises(OptionError, match="is not a run: leave it out, or give the run"):
        calibrate(digits, tmp_path / "set", data=str(digits))


def test_unreadable_images_are_left_out_of_a_set_if_that_is_asked_for(own_digits, tmp_path):
    for path in (own_digits / "3").glob("*.png"):
        if path.stem > "005":
            path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError, match="or leave such images out with --skip-unreadable"):
        calibrate(own_digits, tmp_path / "set", size=60)
    report = calibrate(own_digits, tmp_path / "set", size=40, skip_unreadable=True, force=True)
    assert report.unreadable > 30
    assert report.per_label["3"] < 6
    assert "that cannot be decoded" in str(report)


def test_diverse_wants_a_run(digits, run, tmp_path):
    with pytest.raises(OptionError, match="is not a run; the rule diverse needs a run"):
        calibrate(
            digits, tmp_path / "set", CalibrateOptions(size=30, rule="diverse", model=str(run / "model.fp32.onnx"))
        )


def test_the_command_tells_what_it_chose(command, digits, tmp_path):
    code, out, _ = command("calibrate", digits, "--output", tmp_path / "set", "--size", "60", "--json")
    assert code == 0
    assert json.loads(out)["per_label"] == {"3": 20, "5": 19, "8": 21}
