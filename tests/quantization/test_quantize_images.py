"""Which images quantize calibrates and evaluates on, and where it finds them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgeclf import CalibrationSet, QuantizeOptions, SplitOptions, load_dataset, quantize
from edgeclf.calibration.sets import within_training_images
from edgeclf.data.datasets import Dataset, Sample
from edgeclf.display.progress import show_progress
from edgeclf.errors import DataError
from edgeclf.training.runs import read_run
from tests.support.photos import write_photos

FP16 = {"flavors": ("fp16",), "max_drop": 0.5}


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


def forget_the_images(run):
    """Let a run's images be gone from where they were."""
    facts = json.loads((run / "run.json").read_text())
    facts["data"]["root"] = "/nowhere"
    (run / "run.json").write_text(json.dumps(facts))


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
