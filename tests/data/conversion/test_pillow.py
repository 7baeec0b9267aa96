"""A Pillow image has the pixels of the file that it was read from."""

import io

import numpy as np
import pytest
from PIL import Image

from edgeclf.data.conversion.pillow import pillow_pixels
from edgeclf.data.pixels import read_photo
from edgeclf.errors import ImageError
from tests.support.photos import picture

RGB = Image.fromarray(picture(1, 30, 20))
DEEP = Image.fromarray(np.random.default_rng(2).integers(0, 1 << 16, (20, 30), np.uint16))
CLEAR = Image.fromarray(np.dstack([picture(3, 30, 20), np.full((20, 30), 99, np.uint8)]))
PALETTE = RGB.convert("P")
PALETTE.info["transparency"] = 3


@pytest.mark.parametrize(
    ("image", "suffix"),
    [
        (RGB.convert("1"), ".png"),
        (RGB.convert("L"), ".png"),
        (RGB.convert("L"), ".jpg"),
        (RGB.convert("L"), ".tif"),
        (CLEAR.convert("LA"), ".png"),
        (RGB.convert("P"), ".png"),
        (PALETTE, ".png"),
        (RGB.convert("P"), ".bmp"),
        (RGB, ".png"),
        (RGB, ".jpg"),
        (RGB, ".bmp"),
        (RGB, ".webp"),
        (RGB, ".tif"),
        (CLEAR, ".png"),
        (CLEAR, ".webp"),
        (DEEP, ".png"),
        (DEEP, ".tif"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.mode,
)
def test_an_opened_file_has_the_files_pixels(tmp_path, image, suffix):
    path = tmp_path / f"photo{suffix}"
    image.save(path, lossless=True) if suffix == ".webp" else image.save(path)
    assert np.array_equal(pillow_pixels(Image.open(path), "photo"), read_photo(path))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_it_upright_once(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"photo{suffix}"
    RGB.save(path, exif=exif)
    found = pillow_pixels(Image.open(path), "photo")
    assert found.shape == ((30, 20, 3) if orientation > 4 else (20, 30, 3))
    assert np.array_equal(found, read_photo(path))


@pytest.mark.parametrize("size", [(7, 5), (640, 481), (1201, 800)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_has_the_same_pixels_by_both_decoders(tmp_path, size, subsampling):
    smooth = RGB.resize(size, Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "photo.jpg", subsampling=subsampling, quality=85)
    assert np.array_equal(
        pillow_pixels(Image.open(tmp_path / "photo.jpg"), "photo"), read_photo(tmp_path / "photo.jpg")
    )


def test_a_cmyk_jpeg_has_the_same_pixels_within_one_level_for_every_ink_and_black(tmp_path):
    ink, black = (table.repeat(8, 0).repeat(8, 1) for table in np.mgrid[0:256, 0:256].astype(np.uint8))
    inks = Image.fromarray(np.stack([ink, 255 - ink, ink ^ 85, black], 2), "CMYK")
    inks.save(tmp_path / "photo.jpg", quality=100, subsampling=0)
    wanted = np.asarray(Image.open(tmp_path / "photo.jpg").convert("RGB")).astype(int)
    assert np.abs(read_photo(tmp_path / "photo.jpg")[:, :, ::-1] - wanted).max() == 1


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_other_color_modes_are_converted(mode):
    found = pillow_pixels(RGB.convert(mode), "photo")
    assert np.abs(found[:, :, ::-1].astype(int) - np.asarray(RGB)).mean() < 10


def test_thirty_two_bits_are_taken_if_they_fit_sixteen():
    wide = Image.fromarray(np.asarray(DEEP).astype(np.int32))
    assert wide.mode == "I"
    assert np.array_equal(pillow_pixels(wide, "photo"), pillow_pixels(DEEP, "photo"))
    with pytest.raises(
        ImageError, match=r"images\[3\]: a Pillow image of mode I has values from -1 to 65535; 0 to 65535 was"
    ):
        pillow_pixels(Image.fromarray(np.array([[-1, 65535]], np.int32)), "images[3]")


def test_floats_are_refused_with_the_way_to_convert_them():
    with pytest.raises(ImageError, match=r'of mode F holds floats, .*image\.convert\("L"\)'):
        pillow_pixels(RGB.convert("F"), "photo")


def test_a_truncated_file_is_refused(tmp_path):
    RGB.save(tmp_path / "photo.jpg")
    data = (tmp_path / "photo.jpg").read_bytes()
    with pytest.raises(ImageError, match=r"image: Pillow cannot read it .*; replace or remove it"):
        pillow_pixels(Image.open(io.BytesIO(data[:-20])), "image")
