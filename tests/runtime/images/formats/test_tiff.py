"""TIFF files that are designed to mislead a decoder, to stall it, or to expose uninitialized memory."""

import struct
import zlib

import numpy as np
import pytest

from edgeclf_runtime.images.formats import read_picture
from edgeclf_runtime.images.read import decode_image
from tests.support.image_files import (
    UPRIGHT,
    progressive_jpeg,
    refusal,
    strips,
    tiff,
)
from tests.support.pictures import corners, encode, quarters


def test_the_first_of_a_repeated_tag_counts():
    tags, body = strips(quarters())
    data = tiff([*tags[:1], (256, 3, [20000]), *tags[1:2], (257, 3, [20000]), *tags[2:]], body)
    assert np.array_equal(decode_image(data), quarters())
    large = tiff([(256, 3, [20000]), *tags[:1], (257, 3, [20000]), *tags[1:]], body)
    assert "20000 x 20000 is 400.0 megapixels" in refusal(large)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_a_size_may_have_each_of_its_types(order, kind):
    tags, body = strips(quarters())
    tags[:2] = [(256, kind, [32]), (257, kind, [16])]
    assert np.array_equal(decode_image(tiff(tags, body, order)), quarters())


@pytest.mark.parametrize(("kind", "numbers"), [(9, [32]), (8, [32]), (3, [32, 32]), (4, [])])
def test_a_size_of_another_type_or_count_is_refused(kind, numbers):
    tags, body = strips(quarters())
    tags[0] = (256, kind, numbers)
    assert f"tag 256 has {len(numbers)} values of type {kind}" in refusal(tiff(tags, body))


def test_a_tiff_whose_directories_go_round_in_circles_is_read_once():
    tags, body = strips(quarters())
    assert np.array_equal(decode_image(tiff(tags, body, following=8 + len(body))), quarters())


def test_tags_that_no_picture_needs_are_not_passed_on():
    tags, body = strips(quarters())
    extra = [(700, 7, [0] * 100), (34665, 4, [8]), (65000, 3, [1, 2, 3])] * 100
    data = tiff(tags + extra, body)
    assert len(read_picture(data).content()) == len(data) + 2 + 12 * len(tags) + 4
    assert np.array_equal(decode_image(data), quarters())


def test_a_tiff_with_a_tag_beyond_its_end_is_refused():
    tags, body = strips(quarters())
    data = tiff(tags, body)
    at = data.index(struct.pack("<HHII", 273, 4, 1, 8))
    assert "tag 273 is beyond its end" in refusal(data[: at + 4] + struct.pack("<I", 1 << 16) + data[at + 8 :])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_upright(orientation):
    tags, body = strips(quarters(), t274=[orientation])
    image = decode_image(tiff(tags, body))
    assert image.shape == ((32, 16, 3) if orientation > 4 else (16, 32, 3))
    turned = {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 2, 7: 3, 8: 1}
    assert corners(image)[0] == UPRIGHT[turned[orientation]]


JPEG_TAGS = {"t259": [7], "t262": [6], "t278": [16], "t273": [8]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"t279": [0]}, "strip or tile 0 is incomplete"),
        ({"t279": [100000]}, "strip or tile 0 is incomplete"),
        ({"t279": [1000]}, "strip or tile 0 has 1000 of 1536 bytes"),
        ({"t257": [64], "t278": [16]}, "without all of its 4 strips or tiles"),
        ({"t277": [60000]}, "60000 samples"),
        ({"t273": [8] * 65537}, "tag 273 has 65537 values"),
        ({"t258": [64, 64, 64]}, "3 samples of 64 bits"),
        ({"t259": [6]}, "compression 6"),
        ({"t278": [0]}, "without pixels"),
        ({"t322": [60000], "t323": [60000]}, "tiles of 60000 x 60000"),
        ({"t322": [16]}, "without the tag 323"),
        ({"t322": [1], "t323": [1], "t256": [7000], "t257": [7000]}, "more than 65536 strips or tiles"),
        ({"t256": [1], "t257": [65535], "t278": [1]}, "without all of its 65535 strips or tiles"),
        ({"t256": [7000], "t257": [7000], "t258": [16, 16, 16]}, "294 MB of pixels"),
    ],
)
def test_an_incomplete_tiff_is_refused_with_the_reason(changes, reason):
    assert reason in refusal(tiff(*strips(quarters(), **changes)))


def test_strips_that_share_their_bytes_are_refused_if_they_come_to_many_times_the_file():
    tags, _ = strips(quarters(16, 1000), rows=1, t273=[8] * 1000, t279=[100000] * 1000)
    assert "overlap" in refusal(tiff(tags, bytes(100000)))
    few, _ = strips(quarters(16, 1000), rows=1, t273=[8] * 1000, t279=[48] * 1000)
    assert decode_image(tiff(few, bytes(48))).shape == (1000, 16, 3)


def test_a_short_deflated_strip_is_refused():
    def short(data):
        return zlib.compress(data[:-100])

    assert np.array_equal(decode_image(tiff(*strips(quarters(), zlib.compress))), quarters())
    assert "strip or tile 0 has 1436 of 1536 bytes" in refusal(tiff(*strips(quarters(), short)))


def test_scans_inside_a_tiff_count_too():
    data = progressive_jpeg(4000, 4000, 60)
    tags = {256: 4000, 257: 4000, 258: 8, 259: 7, 262: 1, 273: 8, 277: 1, 278: 4000, 279: len(data)}
    assert "too many scans" in refusal(tiff([(tag, 4, [value]) for tag, value in sorted(tags.items())], data))


def test_a_larger_jpeg_than_its_strip_is_refused():
    data = encode(".jpg", quarters(64, 64))
    changes = {"t259": [7], "t262": [6], "t279": [len(data)]}
    tags, _ = strips(quarters(), **changes)
    assert "larger than its strip" in refusal(tiff(tags, data))


def test_a_bigtiff_is_not_read():
    assert "not an image" in refusal(b"II+\0\x08\0\0\0" + bytes(100))
