"""Folders of other people: which are splits, which are classes, and what is said if that is in doubt."""

from itertools import pairwise

import pytest

from edgeclf.data.checks.integrity import check
from edgeclf.data.datasets import load_dataset
from edgeclf.data.layout import same_label, split_names
from edgeclf.errors import DataError
from edgeclf.options import SplitOptions
from tests.support.photos import kinds, only, write_photos


def photos(*folders, number=2):
    """Names of a few photographs in each folder."""
    return [f"{folder}/{n}.png" for folder in folders for n in range(number)]


def sides(dataset):
    """The folder at the top of each image, and its split."""
    return {(dataset.relative(sample).split("/")[0], sample.split) for sample in dataset.samples}


# The names of splits

TRAIN = (
    "train",
    "Train",
    "TRAIN",
    "Training",
    "train_images",
    "trainset",
    "train set",
    "Train-Data",
    "train2017",
    "01_train",
)
VAL = ("val", "Valid", "validation", "VALIDATION", "dev", "valid_images", "val2017", "Validation Set", "validate")
TEST = ("test", "Testing", "TEST", "test set", "test_images", "testdata", "eval", "Evaluation", "tst", "testImages")


@pytest.mark.parametrize(
    "names",
    [(train, *rest) for rest in zip(VAL, TEST, strict=False) for train in TRAIN[:1]]
    + list(zip(TRAIN, VAL, TEST, strict=False)),
)
def test_split_folders_under_other_names_are_splits(tmp_path, names):
    write_photos(tmp_path, photos(*(f"{name}/{label}" for name in names for label in ("cat", "dog"))))
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert sides(dataset) == set(zip(names, ("train", "val", "test"), strict=True))
    assert dataset.findings == ()


@pytest.mark.parametrize("test", TEST)
def test_two_split_folders_are_enough(tmp_path, test):
    write_photos(tmp_path, photos("Training/cat", "Training/dog", f"{test}/cat", f"{test}/dog", number=12))
    dataset = load_dataset(tmp_path)
    assert (test, "test") in sides(dataset)
    assert {split for folder, split in sides(dataset) if folder == "Training"} == {"train", "val"}


@pytest.mark.parametrize(
    "names", [("pets_train", "pets_test"), ("seg_train", "seg_test"), ("train_v2_cells", "test_v2_cells")]
)
def test_split_folders_may_share_another_word(tmp_path, names):
    write_photos(tmp_path, photos(*(f"{name}/{label}" for name in names for label in ("cat", "dog"))))
    assert load_dataset(tmp_path).labels == ("cat", "dog")


def test_a_split_folder_in_a_split_folder_is_that_split(tmp_path):
    write_photos(tmp_path, photos("seg_train/seg_train/cat", "seg_train/seg_train/dog", "seg_test/seg_test/cat"))
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("cat", "dog")


@pytest.mark.parametrize(
    "name", ["train station", "test tube", "trainer", "trains", "invalid", "validity", "contest", "developer", "tested"]
)
def test_other_words_are_no_splits(name):
    assert split_names([name, "cat"]) == {name: "", "cat": ""}


@pytest.mark.parametrize(("name", "split"), [("eval", "val"), ("Evaluation", "val")])
def test_eval_is_val_where_there_is_a_test(tmp_path, name, split):
    assert split_names(["train", name, "test"])[name] == split
    assert split_names(["train", name, "val"])[name] == "test"


@pytest.mark.parametrize("name", ["holdout", "Hold-Out", "hold_out_images", "heldout set"])
def test_a_holdout_is_the_split_that_is_missing(name):
    assert split_names(["train", name]) == {"train": "train", name: "test"}
    assert split_names(["train", name, "test"])[name] == "val"


@pytest.mark.parametrize("name", ["trainval", "train_val", "Train+Validation", "TrainVal_images"])
def test_what_holds_train_and_val_is_trained_on(name):
    assert split_names([name, "test"]) == {name: "train", "test": "test"}


@pytest.mark.parametrize(
    "names",
    [("Train_Augmented", "Test"), ("train_resized", "valid"), ("train", "TEST_SIMPLE"), ("x_train", "y_test", "val")],
)
def test_a_folder_with_the_word_of_a_split_and_its_labels_is_one(tmp_path, names):
    write_photos(tmp_path, photos(*(f"{name}/{label}" for name in names for label in ("cat", "dog")), number=12))
    assert load_dataset(tmp_path).labels == ("cat", "dog")


def test_a_folder_with_the_word_of_a_split_and_other_labels_is_none(tmp_path):
    write_photos(tmp_path, photos("train station/old", "train station/new", "val/cat", "val/dog"))
    with pytest.raises(DataError, match="rename those that are splits to train, val and test"):
        load_dataset(tmp_path)


def test_eval_beside_train_is_taken_for_test_aloud(tmp_path):
    write_photos(tmp_path, photos("train/cat", "train/dog", "eval/cat", "eval/dog", number=6))
    dataset = load_dataset(tmp_path)
    assert ("eval", "test") in sides(dataset)
    assert "eval/ for test, train/ for train" in only(dataset.findings, "split-names").message


def test_two_folders_of_one_split_are_both_it_aloud(tmp_path):
    write_photos(
        tmp_path, photos(*(f"{name}/{label}" for name in ("train1", "train2", "test") for label in ("cat", "dog")))
    )
    dataset = load_dataset(tmp_path)
    assert {folder for folder, split in sides(dataset) if split != "test"} == {"train1", "train2"}
    assert "train1/ for train, train2/ for train" in only(dataset.findings, "split-names").message


def test_folders_of_other_labels_are_taken_for_classes_aloud(tmp_path):
    write_photos(tmp_path, photos("Training/run", "Training/swim", "Testing/blood", "Testing/water"))
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("Testing", "Training")
    message = only(dataset.findings, "split-or-class").message
    assert message.startswith(
        "Testing/ and Training/ were taken for classes, since their subfolders have different names"
    )


def test_a_test_of_a_few_of_the_labels_is_a_split_aloud(tmp_path):
    write_photos(tmp_path, photos("Training/a", "Training/b", "Training/c", "Training/d", "Testing/a"))
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("a", "b", "c", "d")
    assert "Testing/ for test, Training/ for train" in only(dataset.findings, "split-names").message


def test_one_split_folder_alone_is_that_split_aloud(tmp_path):
    dataset = load_dataset(write_photos(tmp_path, photos("Training/cat", "Training/dog", number=20)))
    assert dataset.labels == ("cat", "dog")
    assert "Training/ for train" in only(dataset.findings, "split-names").message


def test_splits_inside_of_each_class_are_splits(tmp_path):
    write_photos(tmp_path, photos("cat/train", "cat/test", "dog/Training", "dog/Testing", number=8))
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("cat", "dog")
    for sample in dataset.samples:
        assert sample.split == "test" if sample.path.parent.name.lower().startswith("test") else sample.split != "test"


@pytest.mark.parametrize("name", ["test", "Testing", "valid", "train_images"])
def test_loose_images_in_a_split_folder_beside_classes_are_a_class_aloud(tmp_path, name):
    write_photos(tmp_path, photos("cat", "dog", name))
    dataset = load_dataset(tmp_path)
    assert set(dataset.labels) == {"cat", "dog", name}
    message = only(dataset.findings, "split-or-class").message
    assert message.startswith(f"{name}/ was taken for a class, since it lies beside class folders")


def test_a_test_folder_without_classes_beside_a_train_folder_with_some_is_left_out_aloud(tmp_path):
    write_photos(tmp_path, photos("train/cat", "train/dog", "test", number=12))
    report = check(tmp_path)
    assert len(only(report.findings, "unlabeled").files) == 12


def test_folders_without_images_beside_splits_are_passed_over(tmp_path):
    write_photos(tmp_path, photos("train/cat", "train/dog", "test/cat", "test/dog"))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/1.xml").write_text("<a/>")
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert ".xml (1)" in only(dataset.findings, "left-out").message


# Other shapes


def test_a_folder_above_data_sets_is_refused_with_one_of_them(tmp_path):
    write_photos(
        tmp_path,
        photos(
            *(f"{name}/{part}/{label}" for name in ("pets", "cars") for part in ("train", "test") for label in "ab")
        ),
    )
    with pytest.raises(
        DataError, match=r"holds data sets, not class folders: cars, pets; give one of them, such as .*/cars"
    ):
        load_dataset(tmp_path)


@pytest.mark.parametrize("above", ["archive/pets", "a/b/pets"])
def test_a_folder_far_above_a_data_set_is_refused_with_the_one_to_give(tmp_path, above):
    write_photos(tmp_path, photos(*(f"{above}/{part}/{label}" for part in ("train", "test") for label in "ab")))
    with pytest.raises(DataError, match=rf"holds data sets, not class folders: {above}; give one .*/{above}"):
        load_dataset(tmp_path)


def test_a_class_deep_below_may_be_called_train(tmp_path):
    write_photos(tmp_path, photos("vehicles/rail/train/old", "vehicles/rail/train/new", "animals/cat", number=9))
    assert load_dataset(tmp_path).labels == ("animals", "vehicles")


def test_folders_with_the_same_subfolders_may_be_splits_of_other_names(tmp_path):
    write_photos(tmp_path, photos(*(f"{name}/{label}" for name in ("prueba", "entrenamiento") for label in "ab")))
    message = only(load_dataset(tmp_path).findings, "nested").message
    assert "if they are splits of one, rename them to train/, val/ and test/" in message


def test_a_folder_above_class_folders_is_warned_of(tmp_path):
    write_photos(tmp_path, photos("pets/cat", "pets/dog", "cars/bmw", "cars/vw"))
    message = only(load_dataset(tmp_path).findings, "nested").message
    assert "(cars/bmw, cars/vw: 'cars')" in message
    assert f"if each of them is a data set, give one, such as {tmp_path / 'cars'}" in message


def test_a_folder_around_the_data_set_is_refused_with_the_folder_to_give(tmp_path):
    write_photos(tmp_path, photos("photos/cat", "photos/dog", number=6))
    [finding] = [finding for finding in check(tmp_path).errors if finding.kind == "single-class"]
    assert f"if the subfolders are the classes, give {tmp_path / 'photos'}" in finding.message


@pytest.mark.parametrize("wrapper", ["images", "data", "Images/photos", "train"])
def test_a_folder_between_a_split_and_its_classes_is_passed_through(tmp_path, wrapper):
    write_photos(
        tmp_path, photos(*(f"{name}/{wrapper}/{label}" for name in ("train", "test") for label in ("cat", "dog")))
    )
    (tmp_path / "train/labels").mkdir(parents=True)
    (tmp_path / "train/labels/1.txt").write_text("0")
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("cat", "dog")


@pytest.mark.parametrize("inside", ["images", "a/b/c"])
def test_one_subfolder_in_each_class_is_no_reason_to_ask(tmp_path, inside):
    dataset = load_dataset(write_photos(tmp_path, photos(f"cat/{inside}", f"dog/{inside}", number=30)))
    assert dataset.labels == ("cat", "dog")
    assert dataset.findings == ()


@pytest.mark.parametrize("inside", ["session 1", "a/b/c"])
def test_images_in_subfolders_are_of_the_class_above_aloud(tmp_path, inside):
    write_photos(tmp_path, [*photos("cat", "dog"), *photos(f"cat/{inside}")])
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert "images in subfolders get the label of the class folder above" in only(dataset.findings, "nested").message
    assert "nested" not in kinds(load_dataset(tmp_path, SplitOptions(group_by="1")).findings)


def test_class_folders_of_images_have_nothing_to_say(tmp_path):
    assert load_dataset(write_photos(tmp_path, photos("cat", "dog", number=30))).findings == ()


# Labels that look alike


@pytest.mark.parametrize(
    "labels",
    [
        ("Cat", "cat"),
        ("cat", "cat "),
        ("caf\u00e9", "cafe\u0301"),
        ("hot dog", "hot_dog"),
        ("STRASSE", "stra\u00dfe"),
        ("a\u00a0b", "a b"),
    ],
)
def test_labels_that_look_alike_are_warned_of(tmp_path, labels):
    rows = [(f"{label}/{n}.png", label) for label in labels for n in range(8)]
    write_photos(tmp_path, [name for name, _ in rows])
    message = only(check(tmp_path).findings, "similar-labels").message
    assert all(ascii(label) in message for label in labels)


def test_labels_that_differ_are_not_warned_of(tmp_path):
    labels = ["cat", "cats", "c-at", "1", "2", "-", "_"]
    assert all(one != other for one, other in pairwise(sorted(map(same_label, labels[:5]))))
    write_photos(tmp_path, photos(*labels[:5], number=4))
    assert "similar-labels" not in kinds(check(tmp_path).findings)


def test_old_runs_find_the_folders_as_they_did(tmp_path):
    write_photos(tmp_path, photos("Training/cat", "Training/dog", "Testing/cat", "Testing/dog"))
    assert load_dataset(tmp_path, SplitOptions(method="exact")).labels == ("Testing", "Training")
