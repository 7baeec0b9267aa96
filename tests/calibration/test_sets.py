import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeclf import CalibrationSet, load_dataset
from edgeclf.display import progress
from edgeclf.errors import DataError, OutputError
from edgeclf_runtime.images.preprocess import Preprocessing

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def own_digits(digits, tmp_path):
    return Path(shutil.copytree(digits, tmp_path / "digits"))


def test_images_come_from_train_alone_and_as_many_of_each_label_as_its_share(digits):
    dataset = load_dataset(digits)
    chosen = CalibrationSet.select(dataset, size=30)
    by_path = {dataset.relative(sample): sample for sample in dataset.samples}
    samples = [by_path[name] for _, name in chosen.entries]
    assert {sample.split for sample in samples} == {"train"}
    assert [sum(sample.label == label for sample in samples) for label in dataset.labels] == [10, 10, 10]


def test_the_seed_decides_which_images(digits):
    dataset = load_dataset(digits)
    assert CalibrationSet.select(dataset, 20, seed=1).sha256 == CalibrationSet.select(dataset, 20, seed=1).sha256
    assert CalibrationSet.select(dataset, 20, seed=1).sha256 != CalibrationSet.select(dataset, 20, seed=2).sha256


def test_an_image_that_is_also_in_the_test_is_refused_by_name(own_digits):
    for split, number in (("train", 0), ("train", 1), ("test", 2)):
        for label in ("3", "5"):
            folder = own_digits.parent / "split" / split / label
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(own_digits / label / f"{number:03d}.png", folder)
    copied = own_digits.parent / "split" / "train" / "3" / "copy.png"
    shutil.copy(own_digits / "3" / "002.png", copied)
    with pytest.raises(DataError, match=r"copy\.png is also .*002\.png in test"):
        CalibrationSet.select(load_dataset(own_digits.parent / "split"), 10)


def test_a_saved_set_loads_as_the_same_set(digits, tmp_path):
    chosen = CalibrationSet.select(load_dataset(digits), 12)
    chosen.save(tmp_path / "set")
    assert CalibrationSet.load(tmp_path / "set") == chosen


def test_a_set_from_a_csv_file_loads_again(digits, tmp_path):
    lines = [f"{path},{path.parent.name}" for path in sorted(digits.rglob("*.png"))]
    (tmp_path / "data.csv").write_text("\n".join(["path,label", *lines]))
    chosen = CalibrationSet.select(load_dataset(tmp_path / "data.csv"), 12)
    chosen.save(tmp_path / "set")
    assert CalibrationSet.load(tmp_path / "set").sha256 == chosen.sha256


def test_a_changed_image_is_named(own_digits, tmp_path):
    chosen = CalibrationSet.select(load_dataset(own_digits), 12)
    chosen.save(tmp_path / "set")
    victim = chosen.entries[0][1]
    (own_digits / victim).write_bytes(b"changed")
    with pytest.raises(DataError, match=victim):
        CalibrationSet.load(tmp_path / "set")


@pytest.fixture
def said(capfd):
    """What was said so far: said()."""
    progress.show_progress()
    yield lambda: capfd.readouterr().err
    progress.show_progress(False)


def test_a_set_that_lost_a_few_images_goes_on_with_the_others(own_digits, tmp_path, said):
    chosen = CalibrationSet.select(load_dataset(own_digits), 60)
    chosen.save(tmp_path / "set")
    (own_digits / chosen.entries[3][1]).unlink()
    (own_digits / chosen.entries[7][1]).write_bytes(b"changed")
    found = CalibrationSet.load(tmp_path / "set")
    assert found.entries == tuple(entry for at, entry in enumerate(chosen.entries) if at not in (3, 7))
    assert (
        f"warning: 2 of the 60 calibration images are missing from {own_digits} or have changed, "
        f"first {chosen.entries[3][1]}; continuing with the other 58"
    ) in said()


@pytest.mark.parametrize(("size", "lost"), [(60, 31), (22, 3)])
def test_a_set_of_which_too_few_images_are_left_is_refused(own_digits, tmp_path, size, lost):
    chosen = CalibrationSet.select(load_dataset(own_digits), size)
    chosen.save(tmp_path / "set")
    for _, name in chosen.entries[:lost]:
        (own_digits / name).unlink()
    with pytest.raises(
        DataError, match=rf"the calibration set was made, {lost} of its {size} images: make the set again"
    ):
        CalibrationSet.load(tmp_path / "set")


def test_a_set_whose_images_moved_and_lost_a_few_is_found_by_content(own_digits, tmp_path, said):
    chosen = CalibrationSet.select(load_dataset(own_digits), 60)
    chosen.save(tmp_path / "set")
    (own_digits / chosen.entries[0][1]).unlink()
    moved = own_digits.rename(tmp_path / "moved")
    (moved / "3").rename(moved / "three")
    found = CalibrationSet.load(tmp_path / "set", moved)
    assert found.root == moved
    assert sorted(digest for digest, _ in found.entries) == sorted(digest for digest, _ in chosen.entries[1:])
    assert "warning: 1 of the 60 calibration images are missing" in said()


def test_other_data_that_has_a_few_of_its_images_does_not_replace_the_sets_own(own_digits, tmp_path):
    chosen = CalibrationSet.select(load_dataset(own_digits), 60)
    chosen.save(tmp_path / "set")
    for _, name in chosen.entries[:20]:
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(own_digits / name, tmp_path / "other" / name)
    assert CalibrationSet.load(tmp_path / "set", tmp_path / "other") == chosen


def test_a_folder_that_is_no_set_is_refused(tmp_path):
    said = (
        r"recipe\.json and images\.sha256 were expected: recipe\.json: No such file.*make one with: edgeclf calibrate"
    )
    with pytest.raises(DataError, match=said):
        CalibrationSet.load(tmp_path)


@pytest.mark.parametrize("rule", ["stratified", "diverse"])
def test_copies_of_an_image_are_taken_once(own_digits, rule):
    for number in range(200):
        shutil.copy(own_digits / "3" / "000.png", own_digits / "3" / f"copy {number}.png")
    dataset = load_dataset(own_digits)
    vectors = np.arange(len(dataset.split("train")), dtype=np.float32)[:, None]
    chosen = CalibrationSet.select(dataset, 60, rule=rule, vectors=vectors)
    digests = [digest for digest, _ in chosen.entries]
    assert len(chosen) == len(set(digests)) == 60


def test_a_set_is_not_overwritten_unasked(digits, tmp_path):
    chosen = CalibrationSet.select(load_dataset(digits), 12)
    chosen.save(tmp_path / "set")
    with pytest.raises(OutputError, match="exists"):
        chosen.save(tmp_path / "set")


def test_batches_can_be_read_again(digits):
    batches = CalibrationSet.select(load_dataset(digits), 3).batches(Preprocessing(32, 32))
    first, second = list(batches), list(batches)
    assert [batch.shape for batch in first] == [(1, 32, 32, 3)] * 3
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_solar_cells_set_is_what_its_script_makes(tmp_path):
    folder = REPOSITORY / "calibration" / "solar-cells"
    shutil.copy(folder / "prepare.py", tmp_path)
    runpy.run_path(str(tmp_path / "prepare.py"), run_name="__main__")
    for name in ("recipe.json", "images.sha256"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_readme_lists_every_set_with_its_size():
    text = (REPOSITORY / "calibration" / "README.md").read_text()
    for recipe in (REPOSITORY / "calibration").glob("*/recipe.json"):
        size = json.loads(recipe.read_text())["size"]
        assert f"| [{recipe.parent.name}]({recipe.parent.name}/recipe.json) |" in text
        assert f"| {size} | stratified" in text
