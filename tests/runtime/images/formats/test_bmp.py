"""BMP files that are designed to mislead a decoder, to stall it, or to expose uninitialized memory."""

import pytest

from edgeclf_runtime.images.read import decode_image
from tests.support.image_files import (
    bmp,
    refusal,
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bmp(32, -(1 << 31), bytes(2000)), "truncated"),
        (bmp(-32, 16, bytes(2000)), "-32 x 16 pixels"),
        (bmp(32, 16, bytes(100)), "truncated"),
        (bmp(32, 16, bytes(2000), header_bytes=16), "a header of 16 bytes"),
        (bmp(32, 16, bytes(2000), bits=7), "7 bits"),
        (bmp(32, 16, bytes(2000), compression=4), "compression 4"),
        (bmp(9000, 9000, bytes(2000), bits=8, compression=1), "81.0 megapixels"),
        (bmp(64, 64, b"\x40\1\0\0", bits=8, compression=1, colors=bytes(1024)), "cannot decode it"),
    ],
)
def test_a_faulty_bmp_is_refused_with_the_reason(data, reason):
    assert reason in refusal(data)


def test_rows_that_a_packed_bmp_leaves_out_have_the_first_color():
    colors = bytes((9, 8, 7, 0)) + bytes(1020)
    image = decode_image(bmp(64, 64, b"\x40\1\0\0\0\2\5\1\1\1\0\1", bits=8, compression=1, colors=colors))
    assert image[0].tolist() == [[9, 8, 7]] * 64
    assert image[63].tolist() == [[0, 0, 0]] * 64
