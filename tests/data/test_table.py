"""CSV files of other people: what spreadsheets write, and paths of other computers."""

import unicodedata

import pytest

from edgeclf.data.checks.integrity import check
from edgeclf.data.datasets import load_dataset
from edgeclf.errors import DataError
from tests.support.photos import only, write_photos


def table(folder, text, encoding="utf-8"):
    """Write a CSV file into a folder and return its path."""
    path = folder / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


def read(folder, text, encoding="utf-8"):
    """Path relative to the folder, and label, of each row."""
    dataset = load_dataset(table(folder, text, encoding))
    return [(dataset.relative(sample), sample.label) for sample in dataset.samples]


# What spreadsheets and programs write


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,cat\nb.png,dog\n",
        "label,path\ncat,a.png\ndog,b.png\n",
        '"Path";"LABEL"\n"a.png";"cat"\n"b.png";"dog"\n',
        " Path , Label \n a.png , cat \n b.png , dog \n",
        'path, label\na.png, "cat"\nb.png, "dog"\n',
        "sep=;\npath;label\na.png;cat\nb.png;dog\n",
        '"sep=;"\r\npath;label\r\na.png;cat\r\nb.png;dog\r\n',
        "path|label\na.png|cat\nb.png|dog\n",
        "\n\npath,label\n\na.png,cat\n\nb.png,dog\n\n\n",
        "path,label\ra.png,cat\rb.png,dog\r",
        "path,label,,\na.png,cat,,\nb.png,dog,,\n,,,\n",
        "path,label\na.png,cat,,\nb.png,dog,\n",
        'id,path,width,label,note\n1,a.png,32,cat,\n2,b.png,32,dog,"a, b"\n',
        'path,label,note\na.png,cat,"two\nlines"\nb.png,dog,\n',
        "path,label,group,split\na.png,cat,,train\nb.png,dog,,Train\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_csv_is_read_as_it_comes(tmp_path, text, encoding):
    write_photos(tmp_path, ["a.png", "b.png"])
    assert read(tmp_path, text, encoding) == [("a.png", "cat"), ("b.png", "dog")]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("training", "VALIDATION", "Testing"), ("train", "val", "test")),
        (("train set", "dev", "test_set"), ("train", "val", "test")),
        (("train", "eval", "test"), ("train", "val", "test")),
        (("Train", "valid", "eval"), ("train", "val", "test")),
    ],
)
def test_splits_have_the_names_that_folders_may_have(tmp_path, names, splits):
    write_photos(tmp_path, ["a.png", "b.png", "c.png"])
    rows = "".join(f"{letter}.png,cat,{name}\n" for letter, name in zip("abc", names, strict=True))
    dataset = load_dataset(table(tmp_path, f"path,label,split\n{rows}"))
    assert tuple(sample.split for sample in dataset.samples) == splits


def test_a_quoted_path_may_have_a_comma(tmp_path):
    write_photos(tmp_path, ["a, b.png"])
    assert read(tmp_path, 'path,label\n"a, b.png",cat\n') == [("a, b.png", "cat")]


def test_names_keep_their_unusual_line_separators(tmp_path):
    write_photos(tmp_path, ["a\x85b.png", "c.png"])
    assert [name for name, _ in read(tmp_path, "path,label\na\x85b.png,cat\nc.png,dog\n")] == ["a\x85b.png", "c.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\na, b.png,cat\n",
            r"line 2: 3 cells, but 2 columns; put a path or label with a comma in it into double quotes",
        ),
        ("path,label,label\na.png,cat,dog\n", "has the column label twice; keep one of them"),
        ("path,label\na.png\n", "line 2: path or label is empty"),
        ("\n\npath,label\n\na.png,\n", "line 5: path or label is empty"),
        ("path,label\n,,\n;;\n", "line 3: path or label is empty|lists no images"),
        ("path,label\n,\n \n", "lists no images"),
    ],
)
def test_a_csv_that_is_wrong_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


# Paths of other computers


@pytest.mark.parametrize(
    "path",
    [
        r"photos\cat\1.png",
        r".\photos\cat\1.png",
        r"photos\dog\..\cat\1.png",
        r"Photos\CAT\1.PNG",
        "photos/Cat/1.png",
        "./photos/cat/1.png",
        r"photos\\cat\\1.png",
        "photos//cat/1.png",
        r"photos/cat\1.png",
    ],
)
def test_relative_paths_of_windows_are_found(tmp_path, path):
    write_photos(tmp_path, ["photos/cat/1.png", "photos/dog/2.png"])
    dataset = load_dataset(table(tmp_path, f'path,label\n"{path}",cat\nphotos/dog/2.png,dog\n'))
    assert dataset.samples[0].path.samefile(tmp_path / "photos/cat/1.png")
    assert dataset.findings == ()


@pytest.mark.parametrize(
    "prefix",
    [
        "C:\\Users\\Eva\\My Pictures\\",
        "c:/Users/Eva/",
        "D:\\",
        "\\\\nas\\share\\2024\\",
        "//nas/share/",
        "/home/eva/work/",
        "/Users/eva/Desktop/",
        "file:///C:/Users/Eva/",
        "file:///home/eva/My%20Pictures/",
        "C:\\Users\\Eva\\photos\\old\\",
        "C:",
        "%USERPROFILE%\\Pictures\\",
        "$HOME/Pictures/",
        "s3://bucket/",
    ],
)
def test_absolute_paths_of_another_computer_are_found_aloud(tmp_path, prefix):
    write_photos(tmp_path, ["photos/cat/1.png", "photos/dog/1.png"])
    separator = "\\" if "\\" in prefix else "/"
    rows = "".join(f"{prefix}{separator.join(('photos', label, '1.png'))},{label}\n" for label in ("cat", "dog"))
    dataset = load_dataset(table(tmp_path, f"path,label\n{rows}"))
    assert [dataset.relative(sample) for sample in dataset.samples] == ["photos/cat/1.png", "photos/dog/1.png"]
    message = only(dataset.findings, "foreign-paths").message
    assert message.startswith(f"2 paths in {tmp_path / 'labels.csv'} are of another computer; ")
    assert f"was taken for {tmp_path / 'photos/cat/1.png'}" in message


def test_absolute_paths_without_their_files_are_explained(tmp_path):
    write_photos(tmp_path, ["photos/cat/1.png"])
    report = check(table(tmp_path, "path,label\nC:\\data\\cat\\9.png,cat\nphotos/cat/1.png,dog\n"))
    assert only(report.findings, "unreadable")
    message = only(report.findings, "foreign-paths").message
    assert message.startswith(
        f"1 path in {tmp_path / 'labels.csv'}, such as C:\\data\\cat\\9.png, match no file here: copy the images to"
    )


def test_two_paths_are_not_taken_for_one_file(tmp_path):
    write_photos(tmp_path, ["1.png"])
    dataset = load_dataset(table(tmp_path, "path,label\nC:\\cat\\1.png,cat\nC:\\dog\\1.png,dog\n"))
    assert len({sample.path for sample in dataset.samples}) == 2
    assert [finding.severity for finding in dataset.findings if finding.kind == "foreign-paths"] == ["warning"] * 2


@pytest.mark.parametrize(("written", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_found_however_they_are_encoded(tmp_path, written, stored):
    name = "caf\u00e9/\u00e9t\u00e9.png"
    write_photos(tmp_path, [unicodedata.normalize(stored, name)])
    dataset = load_dataset(table(tmp_path, f"path,label\n{unicodedata.normalize(written, name)},cat\n"))
    assert dataset.samples[0].path.exists()


def test_of_two_names_that_differ_in_case_the_one_that_is_written_counts(tmp_path):
    write_photos(tmp_path, ["a.png", "A.png"])
    assert [name for name, _ in read(tmp_path, "path,label\na.png,cat\nA.png,dog\n")] == ["a.png", "A.png"]
    missing = load_dataset(table(tmp_path, "path,label\na.PNG,cat\n"))
    assert not missing.samples[0].path.exists()
