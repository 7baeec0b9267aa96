"""WebP files that are designed to mislead a decoder, to stall it, or to expose uninitialized memory."""

import struct

import cv2
import numpy as np
import pytest

from edgeclf_runtime.images.read import decode_image
from tests.support.image_files import (
    UPRIGHT,
    canvas,
    refusal,
    riff,
    webp_chunk,
)
from tests.support.pictures import corners, encode, quarters

LOSSY = encode(".webp", quarters(), cv2.IMWRITE_WEBP_QUALITY, 90)[20:]
LOSSLESS = encode(".webp", quarters(), cv2.IMWRITE_WEBP_QUALITY, 101)[20:]


@pytest.mark.parametrize(("kind", "body"), [(b"VP8 ", LOSSY), (b"VP8L", LOSSLESS)], ids=["lossy", "lossless"])
def test_a_webp_whose_canvas_is_another_size_than_its_picture_is_refused(kind, body):
    assert corners(decode_image(riff((b"VP8X", canvas(32, 16, 0)), (kind, body)))) == UPRIGHT
    assert "16383 x 16 pixels whose" in refusal(riff((b"VP8X", canvas(16383, 16, 0)), (kind, body)))


def test_the_first_frame_of_a_webp_animation_is_read_by_every_opencv():
    def animation(width, height):
        place = struct.pack("<I", 0)[:3] * 2 + canvas(32, 16, 0)[4:] + b"\1\0\0\0"
        frames = [(b"ANMF", place + webp_chunk(b"VP8L", LOSSLESS)), (b"ANMF", b"damaged")]
        return riff((b"VP8X", canvas(width, height, 2)), (b"ANIM", bytes(6)), *frames)

    assert np.array_equal(decode_image(animation(32, 16)), quarters())
    assert "a WebP of 64 x 64 pixels whose (first) picture is 32 x 16" in refusal(animation(64, 64))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (riff((b"VP8 ", LOSSY), (b"VP8L", LOSSLESS)), "two pictures"),
        (riff((b"VP8X", canvas(32, 16, 0))), "without a picture"),
        (riff((b"VP8 ", b"\1" + LOSSY[1:])), "damaged header"),
        (riff((b"VP8L", b"\0" + LOSSLESS[1:])), "damaged header"),
        (riff(*[(b"none", b"")] * 10001), "chunks"),
        (riff((b"VP8L", LOSSLESS[:5])), "cannot decode it"),
    ],
)
def test_a_faulty_webp_is_refused_with_the_reason(data, reason):
    assert reason in refusal(data)


def test_the_smallest_webp_is_read():
    data = encode(".webp", np.full((1, 1, 3), 200, np.uint8), cv2.IMWRITE_WEBP_QUALITY, 101)
    assert decode_image(data).tolist() == [[[200, 200, 200]]]
