"""Which images a model is evaluated on: by another run's split, and without near-duplicates of those that it was trained on."""

import json
import shutil
from itertools import count

import cv2
import pytest

import edgeclf
from edgeclf import load_dataset
from edgeclf.data.checks.near_duplicates import twins
from edgeclf.errors import DataError
from edgeclf.training.runs import read_run


@pytest.fixture
def grown(run, digits, tmp_path):
    """The run's folder with one more file: a trained image that is 1 % brighter, or more, until its hash puts it into test."""
    shutil.copytree(digits, tmp_path / "grown")
    trained = read_run(run).dataset().split("train")[0]
    pixels = cv2.imread(str(trained.path))
    new = tmp_path / "grown" / trained.label / "again.png"
    for number in count(1):
        cv2.imwrite(str(new), cv2.convertScaleAbs(pixels, alpha=1 + number / 100))
        if _side(tmp_path / "grown", new, run) == "test":
            break
    return tmp_path / "grown", new, trained.path.name


def _side(folder, path, run):
    options = read_run(run).split_options
    return next(sample.split for sample in load_dataset(folder, options).samples if sample.path == path)


def test_a_new_image_like_one_that_was_trained_on_does_not_count(run, digits, grown, command):
    folder, new, twin = grown
    code, out, err = command("evaluate", run, folder, "--json")
    found, before = json.loads(out), edgeclf.evaluate(run, digits)
    assert (code, found["images"], found["near_trained"]) == (0, before.images, 1)
    assert f"1 new image of {folder} left out: nearly the same picture" in err
    assert f"(the first: {new}, like {folder / new.parent.name / twin})" in err
    report = edgeclf.evaluate(run, folder, split="all")
    assert (new in report.paths, report.trained_on) == (False, 123)
    assert "left out: 1 image nearly the same as one that the model was trained on" in str(report)


def test_only_pairs_with_a_new_image_are_compared(grown, monkeypatch):
    from edgeclf.data.checks import near_duplicates

    folder, new, twin = grown
    compared, real = [], near_duplicates.likeness
    monkeypatch.setattr(near_duplicates, "likeness", lambda *both: compared.append(both) or real(*both))
    others = sorted(path for path in folder.rglob("*.png") if path != new)
    assert twins([new], others)[new].name == twin
    assert 0 < len(compared) < 200


@pytest.fixture
def alone(run, tmp_path):
    """A file without its run, which was trained with --split-of."""
    own = shutil.copytree(run, tmp_path / "run")
    facts = json.loads((own / "run.json").read_text())
    facts["data"]["kept_split"] = True
    (own / "run.json").write_text(json.dumps(facts))
    edgeclf.export(own, tmp_path / "alone.onnx")
    return tmp_path / "alone.onnx"


@pytest.mark.parametrize("measure", ["evaluate", "robustness"])
def test_a_file_does_not_guess_a_split_that_came_from_another_run(alone, run, digits, measure):
    with pytest.raises(DataError, match="evaluate its run instead, or name the run with --split-of"):
        getattr(edgeclf, measure)(alone, digits)
    few = {"corruptions": ("noise",)} if measure == "robustness" else {}
    assert getattr(edgeclf, measure)(alone, digits, split_of=str(run), **few).images == 45


def test_models_are_compared_on_the_split_of_a_run(alone, run, digits):
    with pytest.raises(DataError, match="--split-of"):
        edgeclf.compare(alone, alone, digits, skip_timing=True)
    assert edgeclf.compare(alone, alone, digits, split_of=str(run), skip_timing=True).images == 45
