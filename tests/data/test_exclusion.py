"""Images that a list leaves out of training."""

import csv

import pytest

from edgeclf.data.datasets import load_dataset
from edgeclf.data.exclusion import Exclusion, load_training_data, read_exclusions, without_excluded, write_exclusions
from edgeclf.errors import DataError
from edgeclf.options import TrainOptions
from tests.support.photos import only, write_photos

NAMES = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(6)]


@pytest.fixture
def photos(tmp_path):
    return load_dataset(write_photos(tmp_path / "photos", NAMES))


def left(dataset):
    return [dataset.relative(sample) for sample in dataset.samples]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "cat/2.png\n\n  dog/0.png\n"),
        ("list.csv", "path,reason\ncat/2.png,wrong label\ndog/0.png,outlier\n"),
        ("list.csv", "\ufeffreason,path\r\nx,cat/2.png\r\nx,./dog/0.png\r\n"),
        ("list.csv", "path\n{root}/cat/2.png\n{root}/dog/0.png\n"),
    ],
)
def test_images_of_a_list_are_left_out_and_counted(photos, tmp_path, name, text):
    (tmp_path / name).write_text(text.format(root=photos.root), encoding="utf-8", newline="")
    found = without_excluded(photos, tmp_path / name)
    assert left(found) == [one for one in NAMES if one not in ("cat/2.png", "dog/0.png")]
    finding = only(found.findings, "excluded")
    assert finding.message == f"2 images left out, listed in {name}"
    assert len(finding.files) == 2


def test_the_others_keep_their_splits(photos, tmp_path):
    (tmp_path / "list.txt").write_text("cat/2.png\n")
    splits = {sample.path: sample.split for sample in photos.samples}
    found = load_training_data(photos.root, TrainOptions(exclude=str(tmp_path / "list.txt")))
    assert len(found.samples) == 11
    assert all(splits[sample.path] == sample.split for sample in found.samples)


def test_paths_that_are_not_there_are_counted(photos, tmp_path):
    (tmp_path / "list.txt").write_text("cat/9.png\ncat/2.png\nfish/1.png\n")
    found = without_excluded(photos, tmp_path / "list.txt")
    finding = only(found.findings, "unknown-path")
    assert "2 paths in" in finding.message
    assert "first cat/9.png" in finding.message
    assert len(found.samples) == 11


def test_a_list_is_applied_once(photos, tmp_path):
    (tmp_path / "list.txt").write_text("cat/2.png\n")
    once = without_excluded(photos, tmp_path / "list.txt")
    assert without_excluded(once, tmp_path / "list.txt") is once
    assert without_excluded(photos, None) is photos


def test_an_empty_list_leaves_out_nothing(photos, tmp_path):
    write_exclusions(tmp_path / "exclude.csv", [])
    assert left(without_excluded(photos, tmp_path / "exclude.csv")) == NAMES


def test_names_that_a_spreadsheet_would_run_are_found_again(tmp_path):
    dataset = load_dataset(write_photos(tmp_path / "photos", ["=cat/0.png", "=cat/1.png", "dog/0.png"]))
    write_exclusions(tmp_path / "exclude.csv", [Exclusion("=cat/0.png", "outlier", "=cat", "-dog", 0.25)])
    with (tmp_path / "exclude.csv").open(newline="") as stream:
        [row] = csv.DictReader(stream)
    assert row == {
        "path": "'=cat/0.png",
        "reason": "outlier",
        "label": "'=cat",
        "suggested_label": "'-dog",
        "score": "0.25",
    }
    assert left(without_excluded(dataset, tmp_path / "exclude.csv")) == ["=cat/1.png", "dog/0.png"]


def test_a_list_of_all_images_is_refused(photos, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(NAMES))
    with pytest.raises(DataError, match="lists every image"):
        without_excluded(photos, tmp_path / "list.txt")


def test_what_is_no_list_is_refused(tmp_path):
    (tmp_path / "list.csv").write_text("file,reason\ncat/2.png,x\n")
    with pytest.raises(DataError, match=r"its columns are file, reason; the column path was expected"):
        read_exclusions(tmp_path / "list.csv")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    for name in ("photo.jpg", "missing.csv"):
        with pytest.raises(DataError, match="is not a list of images to leave out"):
            read_exclusions(tmp_path / name)
