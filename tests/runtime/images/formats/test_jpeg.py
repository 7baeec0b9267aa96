"""JPEG files that are designed to mislead a decoder, to stall it, or to expose uninitialized memory."""

import struct

import cv2
import numpy as np
import pytest

from edgeclf_runtime.images.formats import read_picture
from edgeclf_runtime.images.read import decode_image
from tests.support.image_files import (
    UPRIGHT,
    frame,
    hidden_frame,
    progressive_jpeg,
    refusal,
    scan,
    segment,
    tables,
)
from tests.support.pictures import corners, encode, quarters

JPEG = encode(".jpg", quarters())
PROGRESSIVE = encode(".jpg", quarters(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


@pytest.mark.parametrize("marker", [1, *list(range(208, 216))])
def test_a_size_cannot_hide_behind_a_marker_without_a_length(marker):
    shown = frame(16, 16) + scan()
    assert "30000 x 30000 is 900.0 megapixels" in refusal(hidden_frame(marker, 30000, 30000, shown))


def test_markers_without_a_length_are_skipped_as_libjpeg_does():
    assert corners(decode_image(JPEG[:2] + b"\xff\x01\xff\xd0\xff\xff\xd7" + JPEG[2:])) == UPRIGHT


def test_a_jpeg_with_two_sizes_is_refused():
    assert "two sizes" in refusal(JPEG[:2] + frame(30000, 30000) + JPEG[2:])
    assert "two sizes" in refusal(PROGRESSIVE[:-2] + frame(30000, 30000) + PROGRESSIVE[-2:])


def test_a_jpeg_that_ends_before_its_picture_is_refused():
    at = JPEG.index(b"\xff\xda")
    assert "without a picture" in refusal(JPEG[:at] + b"\xff\xd9" + JPEG[at:])


def test_a_jpeg_whose_height_comes_later_is_refused():
    at = JPEG.index(b"\xff\xc0") + 5
    assert "32 x 0 pixels" in refusal(JPEG[:at] + b"\0\0" + JPEG[at + 2 :])


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded():
    assert "too many scans" in refusal(progressive_jpeg(7000, 7000, 20))
    assert "513 scans" in refusal(progressive_jpeg(16, 16, 513))
    assert decode_image(progressive_jpeg(16, 16, 500)).shape == (16, 16, 3)


def test_a_progressive_photograph_of_48_megapixels_with_the_usual_scans_is_not_held_up():
    image = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    data = encode(".jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, 95)
    at = data.index(b"\xff\xc2") + 5
    picture = read_picture(data[:at] + struct.pack(">HH", 6000, 8000) + data[at + 4 :])
    assert (picture.width, picture.height) == (8000, 6000)


def test_a_jpeg_of_many_segments_is_refused():
    assert "segments" in refusal(JPEG[:2] + segment(0xFE, b"") * 5000 + JPEG[2:])


def test_data_around_a_jpegs_picture_are_not_passed_on():
    thumbnail = segment(0xE1, JPEG)
    content = read_picture(JPEG[:2] + thumbnail + segment(0xFE, b"text") + JPEG[2:] + JPEG).content()
    assert content.count(b"\xff\xd8") == 1
    assert b"text" not in content
    assert np.array_equal(decode_image(content), decode_image(JPEG))


def test_a_jpeg_with_an_incomplete_header_is_refused():
    for data in (b"\xff\xd8\xff", JPEG[:2] + b"\xff\xfe\0\1" + JPEG[2:], JPEG[:2] + tables() + scan() + b"\xff\xd9"):
        assert "replace or remove it" in refusal(data)
