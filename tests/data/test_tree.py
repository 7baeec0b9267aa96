"""Files and folders that are not photographs, and photographs under unusual suffixes."""

import os

import numpy as np
import pytest

from edgeclf.data.checks.integrity import check, check_for_training
from edgeclf.data.datasets import load_dataset
from edgeclf.data.pixels import read_photo
from edgeclf.data.tree import IMAGE_SUFFIXES
from edgeclf.errors import DataError
from edgeclf.options import SplitOptions
from tests.support.photos import only, picture, write_photos, write_picture

SOUND = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(12)]


# What computers leave


@pytest.mark.parametrize(
    "folder",
    [
        *(
            "@eaDir",
            "@tmp",
            "@Recycle",
            "#recycle",
            "#snapshot",
            "$RECYCLE.BIN",
            "RECYCLER",
            "System Volume Information",
        ),
        *(
            "lost+found",
            "__MACOSX",
            "__pycache__",
            ".thumbnails",
            ".git",
            ".Trash-1000",
            ".AppleDouble",
            ".@__thumb",
            ".snapshots",
        ),
        *("$WinREAgent", "@appstore", "_gsdata_", "Lightroom Previews.lrdata", "Photos Library.photoslibrary"),
    ],
)
@pytest.mark.parametrize("above", ["", "cat/"])
def test_folders_of_systems_are_passed_over(tmp_path, folder, above):
    write_photos(tmp_path, [*SOUND, f"{above}{folder}/SYNOPHOTO_THUMB_M.jpg", f"{above}{folder}/deeper/1.jpg"])
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert len(dataset.samples) == len(SOUND)
    assert dataset.findings == ()


@pytest.mark.parametrize(
    "name", ["Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", ".DS_Store", "._1.jpg", ".hidden.png", "Icon\r"]
)
def test_files_of_systems_are_passed_over(tmp_path, name):
    write_photos(tmp_path, SOUND)
    for folder in (tmp_path, tmp_path / "cat"):
        (folder / name).write_bytes(b"\0" * 100)
    assert load_dataset(tmp_path).findings == ()


@pytest.mark.parametrize("label", ["#1", "$5", "@home", "__background__", "_other", "recycled", "thumbs", "~"])
def test_a_class_may_have_an_unusual_name(tmp_path, label):
    write_photos(tmp_path, [*SOUND, *(f"{label}/{n}.png" for n in range(5))])
    assert label in load_dataset(tmp_path).labels


def test_links_among_many_folders_come_to_an_end(tmp_path):
    write_photos(tmp_path, [f"{label}/{part}/1.png" for label in ("cat", "dog") for part in range(9)])
    for label in ("cat", "dog"):
        for part in range(9):
            for other in range(9):
                (tmp_path / label / str(part) / f"link {other}").symlink_to(tmp_path / "cat" / str(other))
    dataset = load_dataset(tmp_path)
    assert [sum(sample.label == label for sample in dataset.samples) for label in ("cat", "dog")] == [9, 18]


def test_two_classes_may_be_links_to_one_folder(tmp_path):
    write_photos(tmp_path, ["data/train/cat/1.png", "elsewhere/2.png"])
    for name in ("dog", "emu"):
        (tmp_path / "data/train" / name).symlink_to(tmp_path / "elsewhere")
    assert load_dataset(tmp_path / "data").labels == ("cat", "dog", "emu")


# What edgeclf leaves


MARKS = {
    "run": {"run.json": '{"format": "edgeclf-run", "labels": []}'},
    "unfinished training": {"training.json": '{"format": "edgeclf-training"}'},
    "bundle": {"manifest.json": '{\n "format": "edgeclf-bundle"\n}'},
    "calibration set": {"recipe.json": "{}", "images.sha256": "0  cat/1.png\n"},
    "audit": {"audit.json": '{"format": "edgeclf-audit"}'},
    "report": {"report.json": '{"format": "edgeclf-report"}'},
    "golden tensors": {"golden.json": '{"format": "edgeclf-golden-tensors"}'},
    "demo": {"summary.json": '{"bundle_id": "0"}', "run/run.json": '{"format": "edgeclf-run"}'},
    "OpenVINO": {"model.xml": '<?xml version="1.0"?>\n<net name="Model0">', "model.bin": ""},
    "timm": {"config.json": '{"architecture": "resnet18"}', "model.safetensors": ""},
    "Core ML": {"Manifest.json": '{"author": "com.apple.CoreML"}'},
    "MLflow": {"mlflow.db": ""},
}
"""The files by which each kind of folder is recognized."""


def output(path, name):
    """Write what edgeclf writes, with a picture in it that must not become a photograph."""
    for file, text in MARKS[name].items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text(text)
    write_picture(path / "golden" / "000.png", picture(99))


@pytest.mark.parametrize("name", MARKS)
@pytest.mark.parametrize("place", ["runs/first", "first", "cat/first", "a/b/c"])
def test_outputs_of_edgeclf_among_the_photographs_are_passed_over_aloud(tmp_path, name, place):
    write_photos(tmp_path, SOUND)
    output(tmp_path / place, name)
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert len(dataset.samples) == len(SOUND)
    assert only(dataset.findings, "outputs").files == (str(tmp_path / place),)
    assert check(tmp_path).errors == []


@pytest.mark.parametrize("name", MARKS)
def test_an_output_of_edgeclf_is_no_data_set(tmp_path, name):
    output(tmp_path / "first", name)
    with pytest.raises(
        DataError, match=r"first is an output of edgeclf .*, not a data set: give the folder of the photographs"
    ):
        load_dataset(tmp_path / "first")


def test_outputs_are_counted_and_said_once(tmp_path):
    write_photos(tmp_path, SOUND)
    for number, name in enumerate(MARKS):
        output(tmp_path / f"out{number}", name)
    finding = only(load_dataset(tmp_path).findings, "outputs")
    assert finding.message.startswith(f"{len(MARKS)} folders passed over, since edgeclf made them: ")
    assert f" and {len(MARKS) - 6} more; keep such folders outside of the data" in finding.message
    assert len(finding.files) == len(MARKS)


@pytest.mark.parametrize(
    "files",
    [("model.fp32.onnx", "model.pt2"), ("tensorboard/run/events.out.tfevents.1",), ("wandb/offline-run/a.wandb",)],
)
def test_a_folder_of_nothing_but_models_or_logs_is_no_class(tmp_path, files):
    write_photos(tmp_path, SOUND)
    for name in files:
        (tmp_path / "first.logs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "first.logs" / name).write_bytes(b"x")
    assert check(tmp_path).errors == []
    assert load_dataset(tmp_path).labels == ("cat", "dog")
    assert only(load_dataset(tmp_path).findings, "outputs").files == (str(tmp_path / "first.logs"),)


def frames(folder, numbers=range(3)):
    """Write frames as a device saves them, each with its JSON file."""
    for number in numbers:
        name = f"uncertain-{number:010d}-20260101T000000.000000Z"
        write_picture(folder / f"{name}.jpg", picture(1000 + number))
        (folder / f"{name}.json").write_text('{"label": "cat"}')


@pytest.mark.parametrize("above", ["", "train/"])
def test_frames_that_a_device_saved_are_no_class(tmp_path, above):
    write_photos(tmp_path, [above + name for name in SOUND])
    frames(tmp_path / above / "camera 1")
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("cat", "dog")
    finding = only(dataset.findings, "device-frames")
    assert finding.message.startswith(f"3 frames that a device saved in {tmp_path / above / 'camera 1'} passed over")
    assert finding.message.endswith("if a folder is a class, move the JSON files out of it")


def test_saved_frames_that_were_sorted_into_class_folders_are_photographs(tmp_path):
    write_photos(tmp_path / "photos", SOUND)
    frames(tmp_path / "photos" / "cat")
    assert len(load_dataset(tmp_path / "photos").samples) == len(SOUND) + 3
    for number, label in enumerate(("cat", "dog")):
        frames(tmp_path / "field" / label, range(10 * number, 10 * number + 6))
    assert load_dataset(tmp_path / "field").labels == ("cat", "dog")


def test_a_run_json_of_something_else_is_a_file(tmp_path):
    write_photos(tmp_path, SOUND)
    for name in ("run.json", "manifest.json", "images.sha256", "report.json", "summary.json", "golden.json"):
        (tmp_path / "cat" / name).write_text("{}")
    assert len(load_dataset(tmp_path).samples) == len(SOUND)


@pytest.mark.parametrize("name", ["run.json", "manifest.json", "1.jpg"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    write_photos(tmp_path, SOUND)
    os.mkfifo(tmp_path / "cat" / name)
    assert len(check(tmp_path).errors) == (name == "1.jpg")


# Suffixes


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JFIF", ".jif", ".pjpeg", ".dib", ".JPG", ".Tiff", ".apng"])
def test_unusual_suffixes_are_read(tmp_path, suffix):
    write_photos(tmp_path, SOUND)
    write_picture(tmp_path / "cat" / f"new{suffix}", picture(7), ".bmp" if suffix == ".dib" else ".jpg")
    dataset = load_dataset(tmp_path)
    assert len(dataset.samples) == len(SOUND) + 1
    assert check(tmp_path).errors == []


@pytest.mark.parametrize("suffix", [suffix for suffix in IMAGE_SUFFIXES if suffix != ".avif"])
@pytest.mark.parametrize("content", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_a_file_is_decoded_by_its_content_whatever_its_suffix(tmp_path, suffix, content):
    pixels = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    found = read_photo(write_picture(tmp_path / f"photo{suffix}", pixels, content))
    assert found.shape == (20, 30, 3)
    assert np.abs(found.astype(int) - pixels).max() < 8


def test_files_left_out_are_counted_by_suffix(tmp_path):
    write_photos(tmp_path, SOUND)
    for name in ("cat/a.gif", "cat/b.GIF", "dog/c.mp4", "dog/deep/d.cr2", "notes.txt", "dog/readme"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"GIF89a")
    finding = only(check(tmp_path).findings, "left-out")
    assert finding.message.startswith("6 files left out, by suffix: .gif (2), ")
    for part in (".mp4 (1)", ".cr2 (1)", ".txt (1)", "(none) (1)"):
        assert part in finding.message
    assert len(finding.files) == 6
    assert finding in check_for_training(load_dataset(tmp_path))[1].findings


def test_a_folder_of_nothing_but_other_files_names_their_suffixes(tmp_path):
    for name in ("cat/1.gif", "dog/2.gif"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"holds no images: .*; 2 files left out, by suffix: \.gif \(2\)"):
        load_dataset(tmp_path)


def test_old_runs_find_the_files_as_they_did(tmp_path):
    write_photos(tmp_path, SOUND)
    write_picture(tmp_path / "cat" / "new.jfif", picture(7), ".jpg")
    assert len(load_dataset(tmp_path, SplitOptions(method="exact")).samples) == len(SOUND)
