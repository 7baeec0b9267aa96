"""The command classify: photographs, folders and patterns."""

import json
import os
import sys

import pytest

from edgeclf_runtime.classify.classifier import Classifier
from tests.support.pictures import encode, noise, png_bomb
from tests.support.sealing import rename_labels
from tests.support.starting import output_of, start
from tests.support.video_files import avi


def test_without_onnxruntime_and_openvino_opencv_classifies(cli, photos, monkeypatch):
    for library in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, library, None)
    code, out, _ = cli("classify", "--json", photos / "plain.png")
    assert code == 0
    assert (json.loads(out)["model"], json.loads(out)["backend"]) == ("fp32", "opencv")


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_folder_gives_the_same_labels_in_the_same_order_by_any_number_of_threads(cli, bundle, threads):
    code, out, _ = cli("run", "--source", bundle / "golden", "--json", "--threads", threads)
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    with Classifier.open(bundle, threads=1) as classifier:
        expected = [(path.name, classifier.classify(path).label) for path in sorted((bundle / "golden").glob("*.png"))]
    assert [(line["name"], line["label"]) for line in lines] == expected


def test_every_photograph_that_a_user_would_expect_to_work_works(cli, photos):
    code, out, err = cli("classify", "--model", "fp32", *sorted(photos.iterdir()))
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 7


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "cut.jpg",
            encode(".jpg", noise(64, 48))[:-9],
            "the JPEG is truncated (it has no end marker); replace or remove it",
        ),
        (
            "text.jpg",
            b"not a photograph\n",
            "not an image (JPEG, PNG, BMP, WebP or TIFF was expected); replace or remove it",
        ),
        (
            "bomb.png",
            png_bomb(10000, 6000),
            "10000 x 6000 is 60.0 megapixels, more than the 50 allowed; shrink the image",
        ),
        ("empty \u00fc.png", b"", "the file is empty; replace or remove it"),
    ],
)
def test_a_file_that_is_not_a_valid_image_is_a_one_line_error(cli, tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    code, out, err = cli("classify", tmp_path / name)
    assert (code, out) == (1, "")
    assert err == f"error: {tmp_path / name}: {message}\n"


def test_files_after_one_that_is_not_an_image_are_classified_too(cli, photos, tmp_path):
    (tmp_path / "text.jpg").write_bytes(b"not a photograph\n")
    code, out, err = cli("classify", photos / "plain.png", tmp_path / "text.jpg", photos / "plain.png")
    assert code == 1
    assert len(out.splitlines()) == 2
    assert err.startswith(f"error: {tmp_path / 'text.jpg'}: not an image")


@pytest.mark.slow
def test_a_folder_and_a_pattern_are_classified_in_natural_order(cli, tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("shot10.png", "shot2.png", "other.png", "below/deep.png", "-v.png"):
        (tmp_path / name).write_bytes(encode(".png", noise(64, 48)))
    (tmp_path / "notes.txt").write_text("no image, and not called one")
    code, out, err = cli("classify", "--json", tmp_path, tmp_path / "other.png", tmp_path / "shot*.png")
    assert (code, err) == (0, "")
    found = [os.path.basename(json.loads(line)["image"]) for line in out.splitlines()]
    assert found == ["-v.png", "other.png", "shot2.png", "shot10.png", "other.png", "shot2.png", "shot10.png"]
    deep = [json.loads(line)["image"] for line in cli("classify", "--json", tmp_path / "**" / "*.png")[1].splitlines()]
    assert deep.count(str(tmp_path / "below" / "deep.png")) == 1


def test_a_folder_and_a_pattern_without_an_image_are_errors_and_the_rest_is_classified(cli, photos, tmp_path):
    (tmp_path / "none").mkdir()
    code, out, err = cli("classify", tmp_path / "none", tmp_path / "x*.png", photos / "plain.png")
    assert (code, out.count("\n")) == (1, 1)
    holds_none = " holds no image (JPEG, PNG, BMP, WebP or TIFF was expected)"
    assert err.splitlines() == [
        f"error: {tmp_path}/none{holds_none}; subfolders are not read; for them, give {tmp_path}/none/*/*",
        f"error: {tmp_path}/x*.png{holds_none}",
    ]


@pytest.mark.slow
def test_files_whose_names_look_like_options_are_read(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-quiet.png").write_bytes(encode(".png", noise(64, 48)))
    avi(tmp_path / "--video.avi", 2)
    assert cli("classify", "-quiet.png")[0] == 0
    assert cli("run", "--source", "--video.avi", "--quiet")[0] == 0
    assert cli("run", "--source", "-quiet.png", "--quiet")[0] == 0


@pytest.mark.slow
def test_top_k_and_threshold_decide_what_is_said(cli, photos):
    image = photos / "plain.png"
    top = json.loads(cli("classify", "--json", "--top-k", "99", image)[1])["top"]
    assert len(top) == len(json.loads(cli("info", "--json")[1])["labels"])
    assert len(json.loads(cli("classify", "--json", "--top-k", "1", image)[1])["top"]) == 1
    assert json.loads(cli("classify", "--json", "--threshold", "1", image)[1])["label"] == "unknown"
    assert json.loads(cli("classify", "--json", "--threshold", "0", image)[1])["label"] == top[0]["label"]


@pytest.mark.parametrize("library", ["numpy", "cv2"])
def test_a_library_that_is_missing_is_an_error_that_says_how_to_install_it(cli, photos, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    code, _, err = cli("classify", photos / "plain.png")
    assert code == 1
    assert "sudo apt-get install python3-numpy python3-opencv" in err


@pytest.mark.slow
def test_labels_are_printed_whatever_the_terminal_can_show(copied, photos):
    rename_labels(copied, lambda number: f"Geh\u00e4use \u4e2d {number}")
    for arguments, shown in (([], "Geh\\xe4use \\u4e2d"), (["--json"], "Geh\\u00e4use \\u4e2d")):
        process = start(copied, "classify", photos / "plain.png", *arguments, environment={"PYTHONIOENCODING": "ascii"})
        code, out, _ = output_of(process)
        assert code == 0
        assert shown in out
