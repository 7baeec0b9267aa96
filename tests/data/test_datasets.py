"""Reading and splitting a data set, in every layout."""

import os
import shutil

import pytest

from edgeclf.data.checks.integrity import check
from edgeclf.data.datasets import Dataset, Sample, load_dataset
from edgeclf.errors import DataError, OptionError
from edgeclf.options import SplitOptions
from tests.support.photos import only, write_photos


def place(digits, root, names):
    """Copy a real image to each of the names under root."""
    pictures = iter(sorted(digits.rglob("*.png")))
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(next(pictures), path)
    return root


def listed(dataset):
    return {(dataset.relative(sample), sample.label, sample.split) for sample in dataset.samples}


# Class folders


def test_a_file_in_train_and_test_stays_in_both_aloud(tmp_path):
    write_photos(tmp_path, [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(20)])
    rows = [f"{label}/{number}.png,{label}" for label in ("cat", "dog") for number in range(20)]
    text = (
        "path,label,split\n" + "".join(f"{row},train\n" for row in rows) + "".join(f"{row},test\n" for row in rows[:5])
    )
    (tmp_path / "list.csv").write_text(text)
    report = check(tmp_path / "list.csv")
    assert sum(counts["test"] for counts in report.labels.values()) == 5
    assert "5 pictures in 10 files" in only(report.findings, "leaked").message


def test_the_name_of_a_folder_is_the_label_of_its_images(digits):
    dataset = load_dataset(digits)
    assert dataset.labels == ("3", "5", "8")
    assert len(dataset.samples) == 180
    assert all(sample.path.parent.name == sample.label for sample in dataset.samples)


def test_images_in_nested_folders_belong_to_the_class_above(digits, tmp_path):
    dataset = load_dataset(place(digits, tmp_path, ["cat/kittens/1.png", "cat/2.png", "dog/3.png"]))
    assert dataset.labels == ("cat", "dog")
    assert [sample.label for sample in dataset.samples] == ["cat", "cat", "dog"]


def test_hidden_files_and_folders_are_passed_over(digits, tmp_path):
    place(digits, tmp_path, [".git/1.png", "__MACOSX/2.png", "cat/.thumbs/3.png", "cat/._4.png", "cat/5.png"])
    assert [sample.path.name for sample in load_dataset(tmp_path).samples] == ["5.png"]


def test_names_may_hold_capitals_spaces_and_any_letters(digits, tmp_path):
    place(digits, tmp_path, ["Große Katze/été 1.PNG", "犬/ポチ.Png"])
    assert {(s.label, s.path.name) for s in load_dataset(tmp_path).samples} == {
        ("Große Katze", "été 1.PNG"),
        ("犬", "ポチ.Png"),
    }


def test_a_name_that_is_no_text_is_named_with_what_to_do(digits, tmp_path):
    place(digits, tmp_path, ["cat/1.png"])
    os.rename(tmp_path / "cat/1.png", os.fsencode(tmp_path / "cat") + b"/caf\xe9.png")
    with pytest.raises(DataError, match=r"caf\\xe9.png' is not in UTF-8; rename it"):
        load_dataset(tmp_path)


def test_links_that_lead_in_circles_count_no_image_twice(digits, tmp_path):
    place(digits, tmp_path, ["cat/1.png", "dog/2.png"])
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "all").symlink_to(tmp_path)
    assert [sample.path.name for sample in load_dataset(tmp_path).samples] == ["1.png", "2.png"]


def test_a_class_folder_may_be_a_link(digits, tmp_path):
    place(digits, tmp_path, ["elsewhere/1.png", "data/dog/2.png"])
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    assert load_dataset(tmp_path / "data").labels == ("cat", "dog")


def test_images_beside_the_class_folders_are_kept_apart(digits, tmp_path):
    dataset = load_dataset(place(digits, tmp_path, ["cat/1.png", "dog/2.png", "stray.png"]))
    assert dataset.unlabeled == (tmp_path / "stray.png",)
    assert len(dataset.samples) == 2


def test_a_class_folder_without_images_is_remembered(digits, tmp_path):
    place(digits, tmp_path, ["cat/1.png"])
    (tmp_path / "dog").mkdir()
    dataset = load_dataset(tmp_path)
    assert dataset.empty == (tmp_path / "dog",)
    assert dataset.labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no images: put the images of each class"),
        (["1.png", "2.png"], "holds images but no class folders: move the images of each class"),
        (["train/1.png", "test/2.png"], "test holds images but no class folders"),
        (["train/cat/1.png", "dog/2.png"], "train/ with class folders in it and, next to it, dog"),
    ],
)
def test_a_folder_of_another_kind_is_refused_with_what_to_do(digits, tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        load_dataset(place(digits, tmp_path, names))


def test_what_is_no_data_set_at_all_is_told_what_is_one(tmp_path):
    with pytest.raises(
        DataError, match=r"missing does not exist: a folder of class folders, a .csv file, or one of elpv"
    ):
        load_dataset(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("cat")
    with pytest.raises(DataError, match=r"is a file, but not a \.csv"):
        load_dataset(tmp_path / "notes.txt")


# train/, val/ and test/


def test_split_folders_say_where_their_images_go(digits, tmp_path):
    names = ["train/cat/1.png", "Valid/cat/2.png", "test/cat/3.png"]
    dataset = load_dataset(place(digits, tmp_path, names))
    assert listed(dataset) == {(names[0], "cat", "train"), (names[1], "cat", "val"), (names[2], "cat", "test")}
    assert dataset.divided_by is None


def test_a_missing_val_comes_out_of_train_and_leaves_test_alone(digits, tmp_path):
    names = [f"train/cat/{n}.png" for n in range(20)] + ["test/cat/20.png"]
    counts = load_dataset(place(digits, tmp_path, names)).counts()
    assert counts["test"] == 1
    assert 1 <= counts["val"] <= 5
    assert sum(counts.values()) == 21


def test_test_may_be_alone(digits, tmp_path):
    assert load_dataset(place(digits, tmp_path, ["test/cat/1.png"])).counts() == {"train": 0, "val": 0, "test": 1}


def test_a_class_may_be_called_train(digits, tmp_path):
    assert load_dataset(place(digits, tmp_path, ["car/1.png", "train/2.png"])).labels == ("car", "train")


def test_a_split_without_images_says_which_there_are(digits, tmp_path):
    dataset = load_dataset(place(digits, tmp_path, ["train/cat/1.png", "val/cat/2.png"]))
    with pytest.raises(DataError, match=r"no images in the split 'test'; it has train \(1\), val \(1\): choose one"):
        dataset.split("test")


# CSV


def write_csv(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,cat\nb.png,dog\n",
        "\ufeffpath,label\r\na.png,cat\r\nb.png,dog\r\n",
        "path;label\na.png;cat\nb.png;dog\n",
        "path\tlabel\na.png\tcat\nb.png\tdog\n",
        'Label, Path\n" cat ",a.png\n\ndog,b.png\n',
    ],
)
def test_a_csv_is_read_as_spreadsheets_write_it(digits, tmp_path, text):
    place(digits, tmp_path, ["a.png", "b.png"])
    dataset = load_dataset(write_csv(tmp_path / "data.csv", text))
    assert [(sample.path, sample.label) for sample in dataset.samples] == [
        (tmp_path / "a.png", "cat"),
        (tmp_path / "b.png", "dog"),
    ]


def test_paths_in_a_csv_may_be_absolute(digits, tmp_path):
    picture = digits / "3" / "000.png"
    dataset = load_dataset(write_csv(tmp_path / "data.csv", f"path,label\n{picture},three\n"))
    assert dataset.samples[0].path == picture


def test_a_csv_may_name_the_splits(digits, tmp_path):
    text = "path,label,split\na.png,cat,train\nb.png,cat,Validation\nc.png,cat,test\n"
    dataset = load_dataset(write_csv(place(digits, tmp_path, ["a.png", "b.png", "c.png"]) / "data.CSV", text))
    assert [sample.split for sample in dataset.samples] == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has the columns \(none\); path, label and optionally split were expected"),
        ("file,class\na.png,cat\n", "has the columns file, class; path, label"),
        ("path,label\n", "lists no images: a line with path and label for each was expected"),
        ("path,label\na.png,cat\n\nb.png,\n", "line 4: path or label is empty"),
        ("path,label,split\na.png,cat,fold3\n", "line 2: the split is 'fold3'; train, val or test was expected"),
        ("path,label,split\na.png,cat,train\nb.png,cat,\n", "1 of 2 lines have no split; fill it in on every line"),
    ],
)
def test_a_csv_that_cannot_be_meant_is_refused_by_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load_dataset(write_csv(tmp_path / "data.csv", text))


def test_a_csv_in_another_encoding_is_refused(tmp_path):
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        load_dataset(write_csv(tmp_path / "data.csv", "path,label\né.png,cat\n", "latin-1"))


# Named sets


def test_elpv_is_read_from_its_package():
    dataset = load_dataset("elpv")
    assert dataset.labels == ("defective", "functional")
    assert len(dataset.samples) == 2624
    # Stratified by cell type too: poly and mono have the same share of test.
    test = dataset.split("test")
    assert {group: sum(s.group == group for s in test) for group in ("mono", "poly")} == {"mono": 268, "poly": 387}


# The split


def by_split(dataset):
    return {
        name: {sample.path for sample in dataset.samples if sample.split == name} for name in ("train", "val", "test")
    }


def test_every_label_has_its_share_of_each_split_where_the_split_is_exact(digits):
    dataset = load_dataset(digits, SplitOptions(method="exact"))
    for label in dataset.labels:
        counts = [sum(s.label == label for s in dataset.split(split)) for split in ("train", "val", "test")]
        assert counts == [41, 4, 15]


@pytest.mark.slow
def test_the_same_seed_divides_alike_and_another_does_not(digits):
    assert by_split(load_dataset(digits)) == by_split(load_dataset(digits))
    assert by_split(load_dataset(digits, SplitOptions(seed=1))) != by_split(load_dataset(digits))


def test_the_division_goes_by_content_whatever_the_files_are_called(digits, tmp_path):
    renamed = shutil.copytree(digits, tmp_path / "other")
    for number, path in enumerate(sorted(renamed.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"new{number}.png"))
    first, second = load_dataset(digits), load_dataset(renamed)
    assert [sorted(first.sha256(first.split(name))) for name in ("train", "val", "test")] == [
        sorted(second.sha256(second.split(name))) for name in ("train", "val", "test")
    ]


def test_copies_of_an_image_stay_on_one_side(digits, tmp_path):
    copied = shutil.copytree(digits, tmp_path / "digits")
    for path in list(copied.rglob("*.png")):
        shutil.copyfile(path, path.with_name(f"copy of {path.name}"))
    dataset = load_dataset(copied)
    sides = {}
    for sample, digest in zip(dataset.samples, dataset.sha256(dataset.samples), strict=True):
        sides.setdefault(digest, set()).add(sample.split)
    assert {len(splits) for splits in sides.values()} == {1}


@pytest.mark.parametrize(
    ("images", "counts"),
    [(1, [1, 0, 0]), (2, [2, 0, 0]), (3, [1, 1, 1]), (5, [3, 1, 1]), (20, [13, 2, 5])],
)
def test_a_class_of_three_images_has_one_in_each_split(digits, tmp_path, images, counts):
    place(digits, tmp_path, [f"cat/{n}.png" for n in range(images)])
    assert list(load_dataset(tmp_path, SplitOptions(method="exact")).counts().values()) == counts
    found = load_dataset(tmp_path).counts()
    assert found["train"] >= 1
    assert images < 3 or all(found.values())


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(share):
    with pytest.raises(OptionError, match=r"the share for test is .* more than 0 and less than 0.9 was expected"):
        SplitOptions(test=share)


# Labels


@pytest.mark.parametrize("letter", ["\x1b", "\n", "\t", "\x9b", "\u202e", "\u2028", "\u200b", "\u3164"])
def test_a_label_that_commands_a_terminal_or_hides_a_letter_is_refused_escaped(digits, tmp_path, letter):
    place(digits, tmp_path, [f"cat{letter}s/1.png", "dog/2.png"])
    with pytest.raises(
        DataError, match=r"has the label 'cat.*s', with a control or other invisible character"
    ) as caught:
        load_dataset(tmp_path)
    assert str(caught.value).isprintable()
    with pytest.raises(DataError, match=r"has the label 'cat.*s', with a control or other invisible character"):
        load_dataset(write_csv(tmp_path / "list.csv", f'path,label\n1.png,"cat{letter}s"\n'))


def test_letters_that_are_written_with_joiners_are_labels(digits, tmp_path):
    label = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert load_dataset(place(digits, tmp_path, [f"{label}/1.png", "dog/2.png"])).labels == ("dog", label)


def test_twenty_thousand_labels_are_found_without_a_search(tmp_path):
    class Labels(tuple):
        def index(self, *arguments):
            raise AssertionError("a search through all labels")

    names = Labels(f"label {number}" for number in range(21_841))
    samples = tuple(Sample(tmp_path / name, name, "val") for name in names)
    dataset = Dataset("many", tmp_path, names, samples)
    assert [dataset.index(sample) for sample in samples] == list(range(21_841))
    assert [len(found) for found in dataset.by_label("val").values()] == [1] * 21_841
