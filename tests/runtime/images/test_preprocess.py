import hashlib

import numpy as np
import pytest

from edgeclf_runtime.errors import ImageError, OptionError
from edgeclf_runtime.images.preprocess import (
    RESIZE_MODES,
    ROTATIONS,
    Preprocessing,
    as_batch,
    preprocess,
    region_in_frame,
    select,
)
from tests.support.pictures import BLUE, GREEN, RED, YELLOW, noise, quarters

# From width x height, to width x height, resize, crop, color: the first digits of the pixels' sha256.
GOLDEN = [
    ((1280, 720), (224, 224), "crop", 1.0, "RGB", "2378f473930acb9b"),
    ((1280, 720), (224, 224), "stretch", 1.0, "RGB", "55f12d9e1032378a"),
    ((1280, 720), (224, 224), "letterbox", 1.0, "RGB", "3d4c19d0d3e3b6bc"),
    ((300, 300), (224, 224), "crop", 1.0, "RGB", "9f86770398f894c3"),
    ((300, 300), (224, 224), "stretch", 1.0, "RGB", "9f86770398f894c3"),
    ((300, 300), (224, 224), "letterbox", 1.0, "RGB", "9f86770398f894c3"),
    ((640, 480), (224, 224), "crop", 1.0, "RGB", "ca5400c58b888685"),
    ((640, 480), (224, 224), "stretch", 1.0, "RGB", "752ff4db5ff2bac5"),
    ((640, 480), (224, 224), "letterbox", 1.0, "RGB", "552466568d53f282"),
    ((333, 517), (224, 224), "crop", 1.0, "RGB", "23220bf2fb47e275"),
    ((333, 517), (224, 224), "stretch", 1.0, "RGB", "2dbe7bfd47e31447"),
    ((333, 517), (224, 224), "letterbox", 1.0, "RGB", "15ce4b150cc00834"),
    ((32, 32), (224, 224), "crop", 1.0, "RGB", "41ed8d93d678817e"),
    ((32, 32), (224, 224), "stretch", 1.0, "RGB", "41ed8d93d678817e"),
    ((32, 32), (224, 224), "letterbox", 1.0, "RGB", "41ed8d93d678817e"),
    ((4000, 100), (224, 224), "crop", 1.0, "RGB", "337d383e70dd7ade"),
    ((4000, 100), (224, 224), "stretch", 1.0, "RGB", "cda84098cad5f5b0"),
    ((4000, 100), (224, 224), "letterbox", 1.0, "RGB", "1b140a8394e4d85f"),
    ((1280, 720), (224, 224), "crop", 0.875, "RGB", "cddd8baef7421996"),
    ((640, 480), (224, 224), "crop", 0.875, "RGB", "683eb0aceda36039"),
    ((333, 517), (224, 224), "crop", 0.875, "RGB", "5238de62d4c53d9a"),
    ((1280, 720), (256, 256), "crop", 1.0, "BGR", "2663453f9f0be251"),
    ((1280, 720), (398, 224), "stretch", 1.0, "RGB", "7f5a89ab1e275de9"),
    ((1919, 1081), (240, 240), "crop", 0.875, "RGB", "2ab970f4f504c0dc"),
    ((448, 448), (224, 224), "crop", 1.0, "BGR", "173e665f80bd7ca0"),
    ((449, 447), (224, 224), "stretch", 1.0, "RGB", "8b3e3484ed8d5979"),
    ((100, 4000), (160, 96), "crop", 1.0, "RGB", "24c856b01de797bd"),
    ((1, 700), (224, 224), "crop", 1.0, "RGB", "719a48b15a87d97c"),
    ((1, 1), (64, 64), "letterbox", 1.0, "RGB", "f3cc103136423a57"),
    ((640, 480), (300, 300), "letterbox", 1.0, "BGR", "0cf65cd4d7a18894"),
]


@pytest.mark.parametrize(("source", "target", "resize", "crop", "color", "digits"), GOLDEN)
def test_the_same_pixels_come_out_on_every_opencv(source, target, resize, crop, color, digits):
    spec = Preprocessing(target[1], target[0], resize, crop, color=color)
    pixels = preprocess(noise(*source), spec)
    assert pixels.shape == (target[1], target[0], 3)
    assert hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16] == digits


def test_crop_keeps_the_center_in_the_targets_aspect_ratio():
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 255
    assert preprocess(image, Preprocessing(50, 50)).min() == 255


def test_crop_keeps_a_fraction_of_the_sides():
    image = np.zeros((100, 100, 3), np.uint8)
    image[25:75, 25:75] = 255
    assert preprocess(image, Preprocessing(50, 50, crop=0.5)).min() == 255


def test_stretch_keeps_the_whole_image():
    pixels = preprocess(quarters(400, 100), Preprocessing(32, 32, "stretch", color="BGR"))
    assert [tuple(pixels[y, x]) for y in (0, 31) for x in (0, 31)] == [RED, GREEN, BLUE, YELLOW]


def test_letterbox_keeps_the_whole_image_between_black_bars():
    pixels = preprocess(quarters(400, 100), Preprocessing(32, 32, "letterbox", color="BGR"))
    assert [tuple(pixels[y, x]) for y in (12, 19) for x in (0, 31)] == [RED, GREEN, BLUE, YELLOW]
    assert not pixels[:12].any()
    assert not pixels[20:].any()


def test_the_models_channel_order_is_what_the_manifest_says():
    rgb, bgr = (preprocess(quarters(), Preprocessing(16, 16, color=color)) for color in ("RGB", "BGR"))
    assert tuple(bgr[0, 0]) == RED
    assert np.array_equal(rgb, bgr[:, :, ::-1])


def test_fine_detail_is_averaged_and_not_skipped():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::4] = 255
    assert preprocess(stripes, Preprocessing(64, 64)).max() < 70


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 700), (700, 1)])
def test_an_image_of_one_color_keeps_it_however_thin_it_is(width, height):
    for resize in RESIZE_MODES[:2]:
        pixels = preprocess(np.full((height, width, 3), 7, np.uint8), Preprocessing(96, 64, resize))
        assert np.array_equal(pixels, np.full((96, 64, 3), 7))


def test_a_slice_of_a_frame_is_as_good_as_a_copy_of_it():
    part = noise(640, 480)[100:400, 50:600]
    assert np.array_equal(preprocess(part, Preprocessing(96, 96)), preprocess(part.copy(), Preprocessing(96, 96)))


def test_the_frame_itself_is_left_as_it_was():
    image = noise(64, 64)
    preprocess(image, Preprocessing(64, 64, color="BGR"))
    preprocess(image, Preprocessing(32, 32))
    assert np.array_equal(image, noise(64, 64))


def test_a_batch_is_float_pixels_from_0_to_255():
    batch = as_batch([noise(8, 4), noise(8, 4)])
    assert batch.dtype == np.float32
    assert batch.shape == (2, 4, 8, 3)
    assert np.array_equal(batch[1], noise(8, 4))


@pytest.mark.parametrize(
    "wrong",
    [noise(8, 8)[:, :, 0], noise(8, 8).astype(np.float32), np.zeros((8, 8, 4), np.uint8), noise(8, 8)[:0], None],
)
def test_what_is_not_three_channels_of_bytes_is_refused(wrong):
    with pytest.raises(ImageError, match=r"uint8 \[height, width, 3\] was expected, found"):
        preprocess(wrong, Preprocessing(8, 8))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resize", "squash"),
        ("interpolation", "cubic"),
        ("color", "GRAY"),
        ("height", 0),
        ("width", 5000),
        ("crop", 0.0),
    ],
)
def test_a_field_value_that_this_runtime_does_not_support_is_refused_by_name(field, value):
    with pytest.raises(OptionError, match="preprocessing"):
        Preprocessing(8, 8)._replace(**{field: value}).check()


@pytest.mark.parametrize("rotation", sorted(ROTATIONS))
@pytest.mark.parametrize("roi", [(2, 1, 5, 3), (0.25, 0.5, 0.5, 0.25)])
def test_a_region_is_where_it_is_in_the_frame_before_it_is_turned(rotation, roi):
    frame = noise(40, 24)
    part = select(frame, roi, rotation)
    x, y, width, height = region_in_frame(roi, rotation, 40, 24)
    left, top, right, bottom = (round(at) for at in (x * 40, y * 24, (x + width) * 40, (y + height) * 24))
    assert np.array_equal(select(np.ascontiguousarray(frame[top:bottom, left:right]), None, rotation), part)
