"""PNG files that are designed to mislead a decoder, to stall it, or to expose uninitialized memory."""

import struct
import zlib

import numpy as np
import pytest

from edgeclf_runtime.images.formats import read_picture
from edgeclf_runtime.images.read import decode_image
from tests.support.image_files import (
    png,
    png_chunks,
    refusal,
    zeros,
)
from tests.support.pictures import encode, quarters

ROWS = b"".join(b"\0" + row.tobytes() for row in quarters()[:, :, ::-1])
PNG = png(32, 16, 8, 2, (b"IDAT", zlib.compress(ROWS)))


def test_a_png_is_passed_on_with_only_the_chunks_of_its_picture():
    text = (b"zTXt", b"a\0\0" + zeros(1 << 20)), (b"iCCP", b"a\0\0" + zeros(1 << 20)), (b"gAMA", struct.pack(">I", 9))
    animation = (b"acTL", struct.pack(">II", 2, 0)), (b"fcTL", struct.pack(">IIIIIHHBB", 0, 32, 16, 0, 0, 1, 1, 0, 0))
    data = png(32, 16, 8, 2, *text, *animation, (b"IDAT", zlib.compress(ROWS)), (b"fdAT", b"\0\0\0\1damaged"))
    assert png_chunks(bytes(read_picture(data).content())) == [b"IHDR", b"IDAT", b"IEND"]
    assert np.array_equal(decode_image(data), quarters())


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("noise", [8, 800], ids=["small", "large"])
def test_a_png_with_too_few_pixels_is_refused(interlace, noise):
    rows = np.random.RandomState(0).bytes(noise * (3 * noise + 1)).replace(b"\4", b"\1")
    data = png(noise, noise, 8, 2, (b"IDAT", zlib.compress(rows[:-100])), interlace=interlace)
    assert "damaged" in refusal(data)


@pytest.mark.parametrize("side", [16, 400])
def test_pixels_are_the_same_however_a_png_packs_them(side):
    image = np.random.RandomState(1).randint(0, 256, (side, side, 3)).astype(np.uint8)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in image[:, :, ::-1]))
    parts = [(b"IDAT", rows[at : at + 1000]) for at in range(0, len(rows), 1000)]
    assert np.array_equal(decode_image(png(side, side, 8, 2, *parts)), image)
    assert np.array_equal(decode_image(encode(".png", image)), image)


def test_what_follows_the_last_row_of_a_png_is_not_inflated():
    packer = zlib.compressobj(1)
    packed = packer.compress(ROWS) + packer.compress(bytes(60 << 20)) + packer.flush()
    assert len(packed) > 3 << 16
    data = png(32, 16, 8, 2, (b"IDAT", packed))
    assert len(read_picture(data).content()) < 2000
    assert np.array_equal(decode_image(data), quarters())


def test_a_damaged_checksum_of_a_pngs_pixels_is_refused():
    rows = zlib.compress(np.random.RandomState(0).bytes(400 * 1201).replace(b"\4", b"\1"))
    for data in (PNG, png(400, 400, 8, 2, (b"IDAT", rows))):
        damaged = bytearray(data)
        damaged[60] ^= 1
        assert "damaged" in refusal(bytes(damaged))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(32, 16, 8, 2, (b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))), "two IHDR chunks"),
        (PNG[:8] + png(1, 1, 8, 2, (b"tEXt", b""))[33:45] + PNG[8:], "does not start with its header"),
        (PNG[:33] + png(1, 1, 8, 2, (b"CgBI", b"\0\0\0\0"))[33:49] + PNG[33:], "unknown critical chunk 'CgBI'"),
        (png(32, 16, 8, 2), "without pixels"),
        (png(32, 16, 3, 2, (b"IDAT", b"")), "unknown kind"),
        (png(32, 16, 8, 2, *[(b"tEXt", b"")] * 100001), "more than 100000 chunks"),
        (png(7000, 7000, 16, 6, (b"IDAT", b"")), "392 MB of pixels in a file of 0.0 MB"),
        (png(0, 7000, 8, 2, (b"IDAT", b"")), "0 x 7000 pixels"),
        (png(1 << 31, 1, 8, 2, (b"IDAT", b"")), "2147483648 x 1 pixels"),
    ],
)
def test_a_faulty_png_is_refused_with_the_reason(data, reason):
    assert reason in refusal(data)
