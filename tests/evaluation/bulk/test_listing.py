"""The images that paths stand for."""

import tarfile

import pytest

from edgeclf.errors import DataError
from edgeclf.evaluation.bulk.listing import listed


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Files that look like images, in folders."""
    for name in ("b/2.jpg", "b/10.jpg", "a/1.png", "a/deep/3.webp", "a/notes.txt"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*data):
    return [item.name for item in listed(data)]


def tar(path, *members):
    with tarfile.open(path, "w") as archive:
        for name in members:
            archive.addfile(tarfile.TarInfo(name))


def test_a_folder_means_all_images_below_it_sorted(place):
    expected = ["photos/a/1.png", "photos/a/deep/3.webp", "photos/b/10.jpg", "photos/b/2.jpg"]
    assert names("photos") == expected
    assert [item.file for item in listed(["photos"])] == [str(place / name) for name in expected]


def test_paths_keep_their_order_and_patterns_are_natural(place):
    assert names("photos/b/*.jpg", "photos/a/1.png") == ["photos/b/2.jpg", "photos/b/10.jpg", "photos/a/1.png"]


def test_the_members_of_archives_have_the_archives_name_before_theirs(place):
    tar("photos/c.tar", "2.jpg", "1.jpg", "1.cls")
    assert names("photos/c.tar") == names("photos/*.tar") == ["photos/c.tar/2.jpg", "photos/c.tar/1.jpg"]
    assert names("photos")[-2:] == names("photos/c.tar")


def test_a_csv_needs_no_labels_and_keeps_those_that_it_has(place):
    (place / "list.csv").write_text("path\nphotos/b/2.jpg\nphotos/none.jpg\n")
    assert [(item.name, item.label) for item in listed(["list.csv"])] == [
        ("photos/b/2.jpg", ""),
        ("photos/none.jpg", ""),
    ]
    (place / "list.csv").write_text("path,label\nphotos/b/2.jpg,cat\n")
    assert [item.label for item in listed(["list.csv"])] == ["cat"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["photos/nowhere"], "photos/nowhere does not exist; a folder of images"),
        (["photos/a/notes.txt"], "notes.txt is not one of images"),
        (["photos/*.gif"], "holds no image"),
        (["empty"], "empty holds no image and no .tar"),
        (["empty.tar"], "empty.tar holds no image"),
        (["lost.csv"], r"lost.csv: none of its 2 images is there, the first is gone/1.jpg"),
        (["no.csv"], "no.csv has the columns label; path and optionally label were expected"),
        (["photos", "photos/a/1.png"], "photos/a/1.png is given twice"),
        (["twice.tar"], "twice.tar/1.jpg is given twice"),
    ],
)
def test_data_without_images_or_with_one_twice_is_refused(place, data, message):
    (place / "empty").mkdir()
    (place / "lost.csv").write_text("path\ngone/1.jpg\ngone/2.jpg\n")
    (place / "no.csv").write_text("label\ncat\n")
    tar("empty.tar", "1.txt")
    tar("twice.tar", "1.jpg", "1.jpg")
    with pytest.raises(DataError, match=message):
        list(listed(data))
