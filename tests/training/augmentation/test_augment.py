"""The contact sheet of augmented images."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgeclf
from edgeclf.data.pixels import load_pixels
from edgeclf.errors import ImageError, OptionError, OutputError
from edgeclf_runtime.images.preprocess import Preprocessing


def read(path):
    return cv2.imread(str(path))[:, :, ::-1]


def contains(page, tile):
    """Return whether a picture is somewhere on a page, pixel by pixel."""
    difference = cv2.matchTemplate(np.ascontiguousarray(page), np.ascontiguousarray(tile), cv2.TM_SQDIFF)
    y, x = np.unravel_index(difference.argmin(), difference.shape)
    return np.array_equal(page[y : y + len(tile), x : x + len(tile)], tile)


def test_every_row_begins_with_the_image_as_the_model_sees_it(digits, tmp_path):
    report = edgeclf.augment(digits, tmp_path / "page.png", images=4, views=3, image_size=96)
    page = read(tmp_path / "page.png")
    assert [image["label"] for image in report.images] == ["3", "5", "8", "3"]
    for image in report.images:
        assert contains(page, load_pixels(Path(image["path"]), Preprocessing(96, 96)))


def test_an_unreadable_image_stops_it_or_another_takes_its_place(digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / "photos")
    first = edgeclf.augment(photos, tmp_path / "page.png", images=3, views=1, image_size=32).images[0]["path"]
    dataset = edgeclf.load_dataset(photos)
    Path(first).write_text("no image")
    with pytest.raises(ImageError, match="or leave such images out with --skip-unreadable"):
        edgeclf.augment(dataset, tmp_path / "stopped.png", images=3, views=1, image_size=32)
    report = edgeclf.augment(
        dataset, tmp_path / "page.png", overwrite=True, images=3, views=1, image_size=32, skip_unreadable=True
    )
    assert len(report.images) == 3
    assert first not in {image["path"] for image in report.images}


def test_small_images_are_enlarged_without_interpolation(digits, tmp_path):
    report = edgeclf.augment(digits, tmp_path / "page.png", images=1, views=2, image_size=32)
    pixels = load_pixels(Path(report.images[0]["path"]), Preprocessing(32, 32)).repeat(3, 0).repeat(3, 1)
    assert contains(read(tmp_path / "page.png"), pixels)


def test_the_views_are_those_of_the_preset_and_the_seed(digits, tmp_path):
    for name, options in (("a", {}), ("same", {}), ("seed", {"seed": 1}), ("none", {"augment": "none"})):
        edgeclf.augment(digits, tmp_path / f"{name}.png", image_size=32, **options)
    pages = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert pages["a"] == pages["same"]
    assert len(set(pages.values())) == 3


def test_the_report_says_what_is_changed(digits, tmp_path):
    report = edgeclf.augment(digits, tmp_path / "page.png", image_size=32, augment="inspection", rotate=0, jpeg=60)
    facts = json.loads(report.to_json())
    assert facts["steps"] == {
        "flips": "all",
        "translate": 0.05,
        "brightness": 0.3,
        "contrast": 0.3,
        "blur": 1,
        "jpeg": 60,
    }
    assert "inspection: --flips all --translate 0.05 --brightness 0.3 --contrast 0.3 --blur 1 --jpeg 60" in str(report)


def test_a_page_that_exists_is_replaced_only_if_asked(digits, tmp_path):
    page = tmp_path / "page.png"
    page.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"page.png exists: choose another --output, or pass --overwrite"):
        edgeclf.augment(digits, page, image_size=32)
    assert page.read_bytes() == b"mine"
    edgeclf.augment(digits, page, image_size=32, overwrite=True)
    assert read(page).size


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("page.html", {}, r"output is .*page.html; a name that ends with .png was expected"),
        ("page.png", {"views": 0}, "views is 0; 1 to 50 was expected"),
        ("page.png", {"image_size": 5000}, "image-size is 5000; 32 to 1024 was expected"),
    ],
)
def test_what_cannot_be_drawn_is_refused(digits, tmp_path, output, options, message):
    with pytest.raises(OptionError, match=message):
        edgeclf.augment(digits, tmp_path / output, **options)


def test_the_command_suggests_training_with_the_same_options(command, digits, tmp_path):
    line = ["--output", tmp_path / "page.png", "--image-size", 32, "--augment", "inspection", "--rotate", 0]
    code, out, err = command("augment", digits, *line)
    assert code == 0
    assert "6 images with 7 views each" in out
    assert f"next: edgeclf train {digits} --output runs/first --finetune full --augment inspection --rotate 0.0" in err
