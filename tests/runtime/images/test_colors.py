"""Files whose colors decoders read differently: read as they are stored, or refused."""

import struct

import numpy as np
import pytest

from edgeclf_runtime.errors import ImageError
from edgeclf_runtime.images.read import decode_image
from tests.support.image_files import bmp, strips, tiff
from tests.support.pictures import quarters


def refusal(data):
    with pytest.raises(ImageError) as caught:
        decode_image(data, "photo")
    return str(caught.value)


# BMP: the places of the colors


def masked_bmp(red, green, blue, pixel):
    return bmp(32, 16, struct.pack("<III", red, green, blue) + pixel * (32 * 16), bits=32, compression=3)


def test_a_bmp_whose_32_bits_are_in_the_usual_order_is_read():
    data = masked_bmp(0xFF0000, 0xFF00, 0xFF, bytes((1, 2, 3, 0)))
    # The pixels begin after the masks.
    data = data[:10] + struct.pack("<I", 54 + 12) + data[14:]
    assert decode_image(data)[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "masks", [(0xFF, 0xFF00, 0xFF0000), (0xFF000000, 0xFF0000, 0xFF00), (0x3FF00000, 0xFFC00, 0x3FF)]
)
def test_a_bmp_with_other_places_of_its_colors_is_refused(masks):
    assert "save it with 24" in refusal(masked_bmp(*masks, pixel=bytes(4)))


@pytest.mark.parametrize("compression", [0, 3])
def test_a_bmp_of_16_bits_is_refused(compression):
    assert "a BMP of 16 bits" in refusal(bmp(32, 16, bytes(2000), bits=16, compression=compression))


# TIFF: transparency

OPACITY = np.linspace(0, 255, 16 * 32).astype(np.uint8).reshape(16, 32, 1)


def rgba(kind, opacity=OPACITY, colors=None):
    """A TIFF with a fourth sample of that kind: 0 unspecified, 1 opacity that the colors are multiplied by, 2 opacity."""
    colors = quarters() if colors is None else colors
    # strips() reverses the channels.
    image = np.dstack([opacity, colors])
    return tiff(*strips(image, t258=[8] * 4, t277=[4], t338=[kind]))


@pytest.mark.parametrize("kind", [0, 2])
def test_the_colors_of_transparent_pixels_are_those_in_the_file(kind):
    assert np.array_equal(decode_image(rgba(kind)), quarters())


def test_colors_that_are_multiplied_by_their_opacity_are_divided_by_it():
    stored = (quarters().astype(int) * OPACITY // 255).astype(np.uint8)
    expected = np.where(OPACITY, np.minimum(255, stored.astype(int) * 255 // np.maximum(OPACITY, 1)), stored)
    assert np.array_equal(decode_image(rgba(1, colors=stored)), expected)


def test_opaque_colors_stay_as_they_are():
    assert np.array_equal(decode_image(rgba(1, opacity=np.full((16, 32, 1), 255, np.uint8))), quarters())


# TIFF: kinds of colors


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"t262": [8]}, "color space 8; save it as gray or RGB"),
        ({"t262": [32844]}, "color space 32844"),
        ({"t339": [2, 2, 2]}, "signed or floating-point"),
        ({"t339": [3, 3, 3]}, "signed or floating-point"),
        ({"t258": [16, 16, 16], "t284": [2]}, "separate planes"),
        ({"t258": [16, 16, 16, 16], "t277": [4], "t338": [1]}, "multiplied by its opacity"),
        ({"t258": [4, 4, 4]}, "4 bits per sample without a palette"),
        ({"t258": [12, 12, 12]}, "3 samples of 12 bits"),
        ({"t259": [6]}, "compression 6; save it without compression"),
    ],
)
def test_a_tiff_of_other_colors_is_refused(changes, reason):
    assert reason in refusal(tiff(*strips(quarters(), **changes)))


def test_samples_of_an_undefined_kind_are_read_as_unsigned():
    assert np.array_equal(decode_image(tiff(*strips(quarters(), t339=[4, 4, 4]))), quarters())
