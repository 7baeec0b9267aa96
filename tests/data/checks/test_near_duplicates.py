"""Near-duplicates: the same picture in another size, quality, crop or brightness, and no other pictures."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgeclf
from edgeclf.data.checks.integrity import check
from edgeclf.data.checks.near_duplicates import near_duplicates
from edgeclf.data.checks.thumbnails import thumbnail_of
from edgeclf.data.datasets import load_dataset
from edgeclf.errors import OptionError
from edgeclf.options import SplitOptions
from edgeclf.training.runs import write_split
from tests.support.photos import kinds, only, write_picture

CELLS = 12


@pytest.fixture(scope="module")
def cells():
    """Photographs of solar cells, which all look alike."""
    samples = load_dataset("elpv").samples
    return [cv2.imread(str(sample.path)) for sample in samples[:: len(samples) // CELLS][:CELLS]]


def jpeg(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)


def half_size(image):
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def double_size(image):
    return cv2.resize(image, None, fx=2, fy=2)


def shifted(image):
    matrix = np.float32([[1, 0, 15], [0, 1, -15]])
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def cropped(image):
    return image[10:295, 3:288]


def darker(image):
    return cv2.convertScaleAbs(image, alpha=0.8)


def brighter(image):
    return cv2.convertScaleAbs(image, alpha=1.2)


def shifted_and_darker_jpeg(image):
    return jpeg(half_size(darker(shifted(image))))


CHANGES = [jpeg, half_size, double_size, shifted, cropped, darker, brighter, shifted_and_darker_jpeg]


def groups(images):
    return near_duplicates([thumbnail_of(image) for image in images])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_cells_that_look_alike(cells, change):
    assert groups([*cells, change(cells[3])]) == [[3, CELLS]]


def test_several_hundred_images_are_searched_and_not_compared_one_by_one(cells):
    others = [
        np.ascontiguousarray(np.rot90(cell[:, ::way], turn)) for cell in cells for way in (1, -1) for turn in range(4)
    ]
    quarters = [cell[y : y + 190, x : x + 190] for cell in cells for y in (0, 110) for x in (0, 110)]
    distinct = groups([*others, *quarters, *map(double_size, quarters)])
    pairs = [sorted(group) for group in distinct]
    start, count = len(others), len(quarters)
    assert [[start + i, start + count + i] for i in range(count) if [start + i, start + count + i] not in pairs] == []


def test_distinct_cells_are_not_reported(cells):
    assert groups(cells) == []


def test_near_duplicates_form_a_chain(cells):
    frames = [cells[0][y : y + 270, y : y + 270] for y in (0, 10, 20, 30)]
    assert groups([*frames, cells[1]]) == [[0, 1, 2, 3]]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_to_compare_are_in_no_group(cells, count):
    assert groups(cells[:count]) == []


@pytest.mark.parametrize("value", [0, 128, 255])
def test_flat_images_have_nothing_to_compare(value):
    noise = np.random.default_rng(0).integers(0, 3, (9, 100, 100, 3), np.uint8)
    assert groups([np.clip(value + one.astype(int) - 1, 0, 255).astype(np.uint8) for one in noise]) == []


def test_a_gray_copy_of_a_color_image_is_found_and_another_color_is_not(china):
    gray = cv2.cvtColor(cv2.cvtColor(china, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    assert groups([china, gray]) == [[0, 1]]
    assert groups([china, china[:, :, ::-1]]) == []


def test_a_small_lamp_of_another_color_makes_another_image(china):
    red, green = china.copy(), china.copy()
    for image, color in ((red, (0, 0, 255)), (green, (0, 130, 0))):
        cv2.circle(image, (300, 200), 12, color, -1)
    assert groups([red, green]) == []


def test_a_gray_copy_joins_the_image_that_it_is_like_most_and_not_two_that_differ_in_color(china):
    red, green = china.copy(), china.copy()
    for image, color in ((red, (0, 0, 255)), (green, (0, 134, 0))):
        cv2.circle(image, (300, 200), 30, color, -1)
    gray = cv2.cvtColor(cv2.cvtColor(green, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    assert groups([red, gray, green]) == [[1, 2]]


@pytest.fixture(scope="module")
def china():
    """A color photograph, 427 x 640."""
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("china.jpg")[:, :, ::-1])


# Findings


@pytest.fixture
def divided(cells, tmp_path):
    """Cells in train, val and test, under two labels."""
    for number, cell in enumerate(cells):
        split = ("train", "train", "val", "test")[number // 2 % 4]
        write_picture(tmp_path / "data" / split / "ab"[number % 2] / f"{number}.png", cell)
    return tmp_path / "data"


def found(data):
    return [finding for finding in check(data, image_size=32).findings if finding.kind.startswith("near-")]


def test_data_without_near_duplicates_has_no_such_finding(divided):
    assert not found(divided)


def test_near_duplicates_in_one_split_are_reported_together(divided, cells):
    for number in (0, 8):
        write_picture(divided / "train" / "a" / f"{number} again.jpg", cells[number])
    finding = only(found(divided), "near-duplicate")
    assert finding.severity == "warning"
    assert "4 images in 2 groups are nearly the same picture in one split" in finding.message
    assert {Path(file).name for file in finding.files} == {"0.png", "0 again.jpg", "8.png", "8 again.jpg"}


def test_near_duplicates_in_several_splits_are_leaks(divided, cells):
    write_picture(divided / "test" / "a" / "again.jpg", cells[0])
    finding = only(found(divided), "near-leaked")
    assert finding.severity == "warning"
    assert str(finding).endswith("\n    test/a/again.jpg (test, a), train/a/0.png (train, a)")
    assert finding.message.endswith("move each group into one split")


def test_near_duplicates_under_two_labels_may_be_mistakes(divided, cells):
    write_picture(divided / "train" / "b" / "again.jpg", cells[0])
    finding = only(found(divided), "near-conflicting")
    assert finding.severity == "warning"
    assert "compare them, and correct the labels" in finding.message


def test_exact_copies_are_not_near_duplicates_too(divided):
    shutil.copy(divided / "train" / "a" / "0.png", divided / "train" / "a" / "again.png")
    assert only(check(divided, image_size=32).findings, "duplicate")
    assert not found(divided)


def test_the_groups_are_in_the_json(divided, cells):
    again = write_picture(divided / "test" / "a" / "again.jpg", cells[0])
    report = json.loads(check(divided, image_size=32).to_json())
    assert report["near_duplicates"] == [sorted([str(again), str(divided / "train" / "a" / "0.png")])]


# Groups


@pytest.fixture
def series(cells, tmp_path):
    """Two labels, each with six cells in four slightly different crops."""
    for number, cell in enumerate(cells):
        for at in range(4):
            crop = cell[at : at + 290, at : at + 290]
            write_picture(tmp_path / "series" / "ab"[number % 2] / f"{number}-{at}.png", crop)
    return tmp_path / "series"


def test_without_the_option_near_duplicates_leak_and_the_finding_names_the_option(series):
    assert only(found(series), "near-leaked").message.endswith("keep each group in one split: --group-similar")


def test_group_similar_keeps_near_duplicates_in_one_split(series):
    dataset = load_dataset(series, SplitOptions(group_similar=True))
    sides = {}
    for sample in dataset.samples:
        sides.setdefault(sample.path.stem.split("-")[0], set()).add(sample.split)
    assert len(sides) == CELLS
    assert all(len(splits) == 1 for splits in sides.values())
    assert set().union(*sides.values()) == {"train", "val", "test"}
    assert "near-leaked" not in kinds(check(dataset, image_size=32).findings)


def test_group_similar_joins_named_groups_that_share_a_picture(series):
    dataset = load_dataset(series, SplitOptions(group_similar=True, group_by=r"-(\d)"))
    assert {sample.split for sample in dataset.samples} == {"train"}


def recorded(dataset, folder):
    """Write the split of a data set as a run has it."""
    folder.mkdir()
    write_split(folder, dataset)
    return str(folder)


def test_a_group_that_grows_keeps_its_side_if_an_earlier_run_is_named(series, cells, tmp_path):
    before = load_dataset(series, SplitOptions(group_similar=True))
    sides = {sample.path: sample.split for sample in before.samples}
    run = recorded(before, tmp_path / "run")
    for number, cell in enumerate(cells):
        for at in range(4, 10):
            write_picture(series / "ab"[number % 2] / f"{number}-{at}.png", cell[at : at + 290, at : at + 290])
    alone = load_dataset(series, SplitOptions(group_similar=True))
    assert any(
        sides.get(sample.path, sample.split) != sample.split for sample in alone.samples
    )  # why the option is there
    after = load_dataset(series, SplitOptions(group_similar=True, split_of=run))
    assert len(after.samples) == 10 * CELLS
    assert all(sides.get(sample.path, sample.split) == sample.split for sample in after.samples)
    groups = {(sample.path.stem.split("-")[0], sample.split) for sample in after.samples}
    assert len(groups) == CELLS
    assert "torn-group" not in kinds(after.findings)


def test_groups_that_become_one_keep_their_sides_aloud(series, tmp_path):
    before = load_dataset(series, SplitOptions(group_similar=True))
    run = recorded(before, tmp_path / "run")
    after = load_dataset(series, SplitOptions(group_similar=True, group_by=r"-(\d)", split_of=run))
    assert [sample.split for sample in after.samples] == [sample.split for sample in before.samples]
    finding = only(after.findings, "torn-group")
    assert finding.message.startswith(
        f"{4 * CELLS} images in 1 group of images that are alike, or have one name, are in"
    )


def test_group_similar_splits_files_that_cannot_be_read_by_themselves(series):
    (series / "a" / "broken.png").write_bytes(b"nothing")
    dataset = load_dataset(series, SplitOptions(group_similar=True))
    assert len(dataset.samples) == 4 * CELLS + 1


def test_group_similar_needs_the_stable_split():
    with pytest.raises(OptionError, match="group-similar needs the split method 'stable'"):
        load_dataset("elpv", SplitOptions(group_similar=True))


def test_the_option_is_recorded_in_the_run_and_gives_the_same_split_again(series, tmp_path):
    edgeclf.train(
        series, tmp_path / "run", epochs=1, image_size=32, backbone="resnet18", weights="none", group_similar=True
    )
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["data"]["split"]["group_similar"] is True
