"""Problems of a data set: found, reported with the file, and fatal for training if they must be."""

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from edgeclf.data.checks import integrity
from edgeclf.data.datasets import load_dataset
from edgeclf.errors import DataError, OptionError
from edgeclf.options import CheckOptions
from tests.conftest import IMAGE_SIZE


def check(data):
    """Check a data set for a model whose input has the size of the digits."""
    return integrity.check(data, image_size=IMAGE_SIZE)


def check_for_training(data, skip_unreadable=False):
    return integrity.check_for_training(data, skip_unreadable, IMAGE_SIZE)


@pytest.fixture
def photos(digits, tmp_path):
    """A copy of the digits to spoil."""
    return shutil.copytree(digits, tmp_path / "photos")


def findings(data, kind):
    return [finding for finding in check(data).findings if finding.kind == kind]


def test_the_table_of_long_labels_is_within_80_columns(digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    for number in (3, 5):
        (photos / str(number)).rename(photos / f"{'Canis lupus familiaris, ' * 4}{number}")
    table = str(check(photos)).splitlines()[:4]
    assert max(map(len, table)) == 80
    assert table[1].startswith("8 ")
    assert table[2].startswith("Canis lupus familiaris, Can…")
    assert "familiaris, 3      41       2      17" in table[2]


def test_it_takes_options_or_keywords(digits):
    options = CheckOptions(image_size=IMAGE_SIZE, seed=1)
    expected = integrity.check(digits, options).to_dict()
    assert integrity.check(digits, image_size=IMAGE_SIZE, seed=1).to_dict() == expected
    assert integrity.check(digits, options, seed=0).to_dict() == check(digits).to_dict() != expected
    with pytest.raises(OptionError, match="there is no option 'image_sise'; did you mean image_size"):
        integrity.check(digits, image_sise=32)


def test_sound_data_has_no_findings(digits):
    report = check(digits)
    assert report.findings == ()
    assert report.labels["3"] == {"train": 41, "val": 2, "test": 17}
    assert str(report).endswith("180 images, 3 labels, 0 errors, 0 warnings")


# Files that cannot be decoded


def truncated_jpeg(path):
    data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
    path.write_bytes(data[: len(data) // 2])


def text(path):
    path.write_text("This is no photograph.")


def bomb(path):
    Image.new("1", (10_000, 6_000)).save(path, "PNG")


def nothing(path):
    path.write_bytes(b"")


def dangling_link(path):
    path.symlink_to("nowhere.jpg")


BROKEN = [
    (truncated_jpeg, "the JPEG is truncated .*; replace or remove it"),
    (text, "not an image .* was expected.; replace or remove it"),
    (bomb, "60.0 megapixels, more than the 50 allowed; shrink the image"),
    (nothing, "the file is empty; replace or remove it"),
    (dangling_link, "a link to nowhere.jpg, which does not exist; put that file back, or remove the link"),
]


@pytest.mark.parametrize(("spoil", "message"), BROKEN)
def test_a_file_that_cannot_be_decoded_is_named_and_stops_training(photos, spoil, message):
    bad = photos / "3" / "bad.jpg"
    spoil(bad)
    [finding] = findings(photos, "unreadable")
    assert finding.severity == "error"
    assert finding.files == (str(bad),)
    with pytest.raises(DataError, match=rf"bad\.jpg: .*{message}\nor train without .*: --skip-unreadable"):
        check_for_training(load_dataset(photos))


@pytest.mark.parametrize("spoil", [spoil for spoil, _ in BROKEN])
def test_skip_unreadable_leaves_out_just_that_file(photos, spoil):
    spoil(photos / "3" / "bad.jpg")
    dataset, report = check_for_training(load_dataset(photos), skip_unreadable=True)
    assert len(dataset.samples) == 180
    assert [finding.kind for finding in report.findings] == ["unreadable"]


def test_a_check_without_the_unreadable_counts_them_once(photos):
    for number in range(3):
        text(photos / "3" / f"bad{number}.jpg")
    report = integrity.check(photos, image_size=IMAGE_SIZE, skip_unreadable=True)
    [finding] = report.findings
    assert (report.images, report.errors, len(finding.files)) == (180, [], 3)
    assert finding.message.startswith("3 images left out (cannot be decoded), first ")


@pytest.mark.parametrize("checked_before", [False, True])
def test_training_without_the_unreadable_counts_them_once_and_names_a_few(photos, checked_before):
    for number in range(9):
        text(photos / "3" / f"bad{number}.jpg")
    dataset = load_dataset(photos)
    report = integrity.check(dataset, image_size=IMAGE_SIZE) if checked_before else None
    left, report = integrity.check_for_training(dataset, True, IMAGE_SIZE, report=report)
    [finding] = report.findings
    assert (len(left.samples), finding.severity, len(finding.files)) == (180, "warning", 9)
    bad = [str(photos / "3" / f"bad{number}.jpg") for number in range(9)]
    assert finding.message.startswith(f"9 images left out (cannot be decoded), first {bad[0]}: not an image")
    assert finding.message.endswith(f"; also {', '.join(bad[1:7])} and 2 more: edgeclf check gives the reason for each")


def test_skip_unreadable_does_not_leave_a_label_without_images(photos):
    shutil.rmtree(photos / "3")
    (photos / "3").mkdir()
    text(photos / "3" / "only.jpg")
    with pytest.raises(DataError, match="the label '3' has no readable images: add some, or remove it"):
        check_for_training(load_dataset(photos), skip_unreadable=True)


def test_a_file_that_a_csv_names_and_that_is_not_there_is_found(digits, tmp_path):
    (tmp_path / "data.csv").write_text(f"path,label\n{digits / '3' / '000.png'},3\ngone.png,5\n")
    [finding] = findings(tmp_path / "data.csv", "unreadable")
    assert finding.files == (str(tmp_path / "gone.png"),)


def test_many_errors_are_cut_short_with_the_command_that_shows_all(photos):
    for number in range(8):
        text(photos / "3" / f"bad{number}.jpg")
    with pytest.raises(DataError, match=r"\.\.\. and 3 more; see them all with: edgeclf check .*photos") as raised:
        check_for_training(load_dataset(photos))
    assert str(raised.value).count("not an image") == 5


def gray(image):
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def sixteen_bits(image):
    return image.astype(np.uint16) * 257


def transparent(image):
    return cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)


@pytest.mark.parametrize("convert", [gray, sixteen_bits, transparent])
def test_photographs_of_other_kinds_are_fine(photos, convert):
    path = photos / "3" / "000.png"
    cv2.imwrite(str(path), convert(cv2.imread(str(path))))
    assert check(photos).findings == ()


def test_a_cmyk_photograph_is_fine(photos):
    Image.open(photos / "3" / "000.png").convert("CMYK").save(photos / "3" / "000.jpg")
    assert check(photos).errors == []


# Copies


def test_a_picture_twice_in_a_class_is_found_whatever_it_is_called_and_saved_as(photos):
    picture = cv2.imread(str(photos / "3" / "000.png"))
    cv2.imwrite(str(photos / "3" / "other.bmp"), picture)
    [finding] = [f for f in check(photos).findings if f.kind in ("duplicate", "leaked")]
    assert finding.severity == "warning"
    assert finding.files == (str(photos / "3" / "000.png"), str(photos / "3" / "other.bmp"))


def test_a_picture_on_both_sides_of_a_split_is_found(digits, tmp_path):
    for split in ("train", "val", "test"):
        shutil.copytree(digits, tmp_path / split, ignore=lambda folder, names: sorted(names)[9:])
    report = check(tmp_path)
    assert {finding.kind for finding in report.findings} == {"leaked"}
    [finding] = report.findings
    assert "which makes results look too good, 27 pictures in 81 files" in finding.message
    [first] = [copies for copies in report.copies if copies[0].endswith("3/000.png")]
    assert len(first) == 3


def test_a_picture_under_two_labels_is_found(photos):
    shutil.copyfile(photos / "3" / "000.png", photos / "8" / "copy.png")
    [finding] = findings(photos, "conflicting-labels")
    assert finding.files == (str(photos / "3" / "000.png"), str(photos / "8" / "copy.png"))


def test_a_line_that_a_csv_holds_twice_is_found(digits, tmp_path):
    picture = digits / "3" / "000.png"
    (tmp_path / "data.csv").write_text(f"path,label\n{picture},3\n{picture},3\n{digits / '5' / '000.png'},5\n")
    [finding] = findings(tmp_path / "data.csv", "duplicate")
    assert finding.files == (str(picture), str(picture))


# Labels


def test_an_empty_class_stops_training(photos):
    (photos / "4").mkdir()
    with pytest.raises(DataError, match=r"photos/4 holds no images: add some, or remove the folder"):
        check_for_training(load_dataset(photos))


def test_one_class_alone_stops_training(photos):
    shutil.rmtree(photos / "3")
    shutil.rmtree(photos / "5")
    with pytest.raises(DataError, match="has only one class, '8': a classifier needs two or more"):
        check_for_training(load_dataset(photos))


def test_a_label_that_train_lacks_stops_training(photos, tmp_path):
    divided = tmp_path / "divided"
    shutil.copytree(photos, divided / "train")
    shutil.copytree(photos / "3", divided / "test" / "4")
    with pytest.raises(
        DataError, match=r"the label '4' is in val or test \(.*000.png\), but not in train: add it to train"
    ):
        check_for_training(load_dataset(divided))


def test_a_label_in_other_letters_is_asked_after(photos, tmp_path):
    divided = tmp_path / "divided"
    shutil.copytree(photos / "3", divided / "train" / "Three")
    shutil.copytree(photos / "5", divided / "train" / "Five")
    shutil.copytree(photos / "8", divided / "test" / "three")
    with pytest.raises(DataError, match=r"but not in train \(is it 'Three'\?\)"):
        check_for_training(load_dataset(divided))


def test_a_label_that_the_test_lacks_is_warned_of(photos, tmp_path):
    divided = tmp_path / "divided"
    shutil.copytree(photos, divided / "train")
    shutil.copytree(photos / "3", divided / "test" / "3")
    missing = findings(divided, "missing-from-test")
    assert [finding.severity for finding in missing] == ["warning", "warning"]
    assert missing[0].message == "the label '5' has no images in test, so it is not measured there: add some"


def test_too_few_images_to_validate_on_stop_training(digits, tmp_path):
    for label in ("3", "5"):
        (tmp_path / label).mkdir()
        for number in range(2):
            shutil.copyfile(digits / label / f"{number:03d}.png", tmp_path / label / f"{number}.png")
    with pytest.raises(DataError, match="has no images to validate on: add some, three or more of each class"):
        check_for_training(load_dataset(tmp_path))


def test_nothing_to_train_on_is_said_once(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "divided" / "test")
    report = check(tmp_path / "divided")
    assert [finding.message.partition("divided ")[2] for finding in report.errors] == [
        "has no images to train on: add some, three or more of each class",
        "has no images to validate on: add some, three or more of each class",
    ]


def test_heavy_imbalance_is_warned_of(photos):
    for path in sorted((photos / "3").iterdir())[5:]:
        path.unlink()
    [finding] = findings(photos, "imbalanced")
    assert finding.severity == "warning"
    assert finding.message == "the label '3' has 4 images in train, the largest class 43: collect more"


@pytest.mark.parametrize("name", ["unknown", "UNKNOWN"])
def test_a_class_named_as_the_answer_below_a_threshold_is_warned_of(photos, name):
    (photos / "3").rename(photos / name)
    [finding] = findings(photos, "ambiguous-label")
    assert finding.severity == "warning"
    assert f"the label {name!r} is also the label of predictions below the threshold" in finding.message


def test_images_beside_the_class_folders_are_warned_of(photos):
    shutil.copyfile(photos / "3" / "000.png", photos / "stray.png")
    [finding] = findings(photos, "unlabeled")
    assert finding.files == (str(photos / "stray.png"),)
    assert "have no label and are left out" in finding.message


# The report


def test_of_many_findings_of_a_kind_the_text_has_a_few_and_the_number(digits, tmp_path):
    rows = "".join(f"{digits}/3/none {number}.png,3\n" for number in range(50))
    (tmp_path / "list.csv").write_text(f"path,label\n{rows}{digits}/3/000.png,3\n{digits}/5/000.png,5\n")
    report = check(tmp_path / "list.csv")
    assert str(report).count("does not exist") == 20
    assert "\nerror: unreadable: 30 more; --json lists them all\n" in str(report)
    assert len([finding for finding in report.errors if finding.kind == "unreadable"]) == 50


def test_json_lists_every_file_and_the_text_says_how_many(photos):
    for number in range(8):
        shutil.copyfile(photos / "3" / "000.png", photos / f"stray{number}.png")
    report = check(photos)
    [finding] = json.loads(report.to_json())["findings"]
    assert len(finding["files"]) == 8
    assert "(--json lists all 8 files)" in str(report)


def test_labels_missing_from_train_are_named_with_their_files_and_what_was_meant(digits, tmp_path):
    for name, number in (("train/Cat", 3), ("train/dog", 2), ("test/cat", 1), ("test/emu", 2), ("val/dog", 1)):
        (tmp_path / name).mkdir(parents=True)
        for path in sorted((digits / "3").glob("*.png"))[:number]:
            shutil.copy(path, tmp_path / name / f"{name.replace('/', '-')}-{path.name}")
    found = {finding.message.split("'")[1]: finding for finding in check(tmp_path).errors}
    assert sorted(found) == ["cat", "emu"]
    assert "(is it 'Cat'?)" in found["cat"].message
    assert [len(found[label].files) for label in ("cat", "emu")] == [1, 2]


# Data with fewer bits than their files


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_data_of_fewer_bits_than_their_files_have_is_warned_of_with_the_figure(photos, bits):
    pixels = np.random.default_rng(0).integers(0, 1 << bits, (3, 8, 8), np.uint16)
    pixels[0, 0, 0] = (1 << bits) - 1
    for number, image in enumerate(pixels):
        cv2.imwrite(str(photos / "3" / f"deep {number}.png"), image)
    cv2.imwrite(str(photos / "3" / "bright.png"), pixels[0] << (16 - bits))
    (found,) = findings(photos, "nearly-black")
    assert found.severity == "warning"
    assert found.message.startswith(f"in 3 16-bit images, the largest value is {(1 << bits) - 1} of 65535")
    assert f"{bits}-bit data? If the data have {bits} bits, scale them (values << {16 - bits})" in found.message
    assert [file.rpartition("/")[2] for file in found.files] == [f"deep {number}.png" for number in range(3)]


def test_a_class_folder_that_links_to_another_is_reported_once_with_a_count(photos):
    (photos / "again").symlink_to(photos / "3")
    report = check(photos)
    [finding] = [finding for finding in report.findings if finding.kind == "conflicting-labels"]
    pictures = len(list((photos / "3").iterdir()))
    count = f"{pictures} pictures in {2 * pictures} files, through symbolic links: keep the correct one"
    assert finding.message == f"the same picture under several labels, {count}"
    assert len(finding.files) == 2 * pictures
    assert len(report.copies) == len(report.to_dict()["copies"]) == pictures
    assert "leaked" not in {finding.kind for finding in report.findings}


def test_names_of_copies_are_shown_on_lines_of_their_own_relative_to_the_data(photos):
    long = photos / "3" / ("a long name of a photograph" * 3 + ".png")
    shutil.copyfile(photos / "3" / "000.png", long)
    shutil.copyfile(photos / "5" / "000.png", photos / "5" / "copy.png")
    lines = str(check(photos)).splitlines()
    assert any(line.strip().startswith("5/000.png (") and ", 5), 5/copy.png (" in line for line in lines)
    at = next(number for number, line in enumerate(lines) if line.startswith("    3/000.png ("))
    assert lines[at + 1].startswith(f"      3/{long.name} (")
    assert not any(str(photos) in line for line in lines)
