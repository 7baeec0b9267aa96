"""Images of 10, 12 and 14 bits in 16-bit files: read at full brightness if the file states the bits, else reported."""

import struct
import zlib

import numpy as np
import pytest

from edgeclf_runtime.images import bit_depths
from edgeclf_runtime.images.read import decode_image, read_image
from tests.support.image_files import png
from tests.support.pictures import encode

PICTURE = np.random.RandomState(0).randint(0, 256, (16, 32, 3)).astype(np.uint8)
BITS = (10, 12, 14)


def of_bits(bits):
    """The picture as a camera of this many bits gives it: in the lower bits of 16, with noise below the upper 8."""
    fine = np.random.RandomState(1).randint(0, 1 << (bits - 8), PICTURE.shape)
    return (PICTURE.astype(np.uint16) << (bits - 8)) | fine.astype(np.uint16)


def png_of(pixels, *chunks):
    """A 16-bit PNG, with these chunks before its pixels."""
    gray = pixels.ndim == 2
    rows = b"".join(
        b"\0" + row[..., ::-1].astype(">u2").tobytes() if not gray else b"\0" + row.astype(">u2").tobytes()
        for row in pixels
    )
    return png(pixels.shape[1], pixels.shape[0], 16, 0 if gray else 2, *chunks, (b"IDAT", zlib.compress(rows)))


def significant(*bits):
    """The chunk in which a PNG states how many bits are significant."""
    return b"sBIT", bytes(bits)


def tiff_of(pixels, order="<", **tags):
    """A 16-bit TIFF of one strip; more tags as in t281=4095."""
    data = (
        pixels[..., ::-1].astype(order + "u2").tobytes() if pixels.ndim == 3 else pixels.astype(order + "u2").tobytes()
    )
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    entries = [(256, 4, [pixels.shape[1]]), (257, 4, [pixels.shape[0]]), (258, 3, [16] * samples), (259, 3, [1])]
    entries += [(262, 3, [2 if samples == 3 else 1]), (273, 4, [8]), (277, 3, [samples])]
    entries += [(278, 4, [pixels.shape[0]]), (279, 4, [len(data)])]
    entries += [(int(name[1:]), 3, [value] * samples) for name, value in tags.items()]
    letters, body, extra = {3: "H", 4: "I"}, b"", b""
    start = 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, kind, values in sorted(entries):
        packed = struct.pack(order + str(len(values)) + letters[kind], *values)
        if len(packed) > 4:
            packed, extra = struct.pack(order + "I", start + len(extra)), extra + packed
        body += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return head + data + struct.pack(order + "H", len(entries)) + body + bytes(4) + extra


@pytest.fixture
def noted(monkeypatch):
    """The reports about the images that a test reads: (name, largest value) each."""
    monkeypatch.setattr(bit_depths, "_logged", [])
    found = []
    return found, lambda name, largest: found.append((name, largest))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("gray", [False, True], ids=["color", "gray"])
def test_a_png_that_states_its_bits_is_as_bright_as_its_picture(noted, bits, gray):
    pixels = of_bits(bits)[:, :, 0] if gray else of_bits(bits)
    expected = np.dstack([PICTURE[:, :, 0]] * 3) if gray else PICTURE
    data = png_of(pixels, significant(*[bits] * (1 if gray else 3)))
    assert np.array_equal(decode_image(data, noted=noted[1]), expected)
    assert noted[0] == []


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("tag", ["t281", "t341"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_that_states_its_largest_value_is_as_bright_as_its_picture(noted, bits, tag, order):
    for pixels, expected in ((of_bits(bits), PICTURE), (of_bits(bits)[:, :, 0], np.dstack([PICTURE[:, :, 0]] * 3))):
        data = tiff_of(pixels, order, **{tag: (1 << bits) - 1})
        assert np.array_equal(decode_image(data, noted=noted[1]), expected)
    assert noted[0] == []


@pytest.mark.parametrize("bits", BITS)
def test_a_png_whose_bits_were_scaled_to_16_as_the_specification_asks_stays_as_it_is(noted, bits):
    scaled = of_bits(bits) << (16 - bits)
    for data in (scaled, scaled | of_bits(bits) >> (2 * bits - 16)):
        assert np.array_equal(decode_image(png_of(data, significant(bits, bits, bits)), noted=noted[1]), PICTURE)
    assert noted[0] == []


def test_a_dark_png_of_14_bits_that_were_scaled_stays_dark():
    dark = (of_bits(14) >> 4) << 2
    assert np.array_equal(decode_image(png_of(dark, significant(14, 14, 14))), PICTURE >> 4)


@pytest.mark.parametrize(
    "data",
    [
        tiff_of(of_bits(16), t281=4095),
        tiff_of(of_bits(16), t281=3871),
        tiff_of(of_bits(16), t341=65535),
        png_of(of_bits(16), significant(12, 12, 12)),
        png_of(of_bits(16), significant(12, 10, 12)),
        png_of(of_bits(16), significant(0, 0, 0)),
        png_of(of_bits(16), (b"sBIT", b"")),
    ],
)
def test_an_impossible_statement_of_bits_is_ignored(noted, data):
    assert np.array_equal(decode_image(data, noted=noted[1]), PICTURE)
    assert noted[0] == []


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("make", [png_of, tiff_of], ids=["png", "tiff"])
def test_fewer_bits_without_a_statement_are_read_as_16_and_reported(noted, bits, make):
    pixels = of_bits(bits)
    image = decode_image(make(pixels), "it", noted=noted[1])
    assert np.array_equal(image, (pixels >> 8).astype(np.uint8))
    assert noted[0] == [("it", int(pixels.max()))]
    assert f"{bits}-bit data?" in bit_depths.question(noted[0][0][1])


def test_a_tiff_with_alpha_is_reported_too(noted):
    pixels = np.dstack([of_bits(12), of_bits(12)[:, :, 0]])
    decode_image(encode(".tiff", pixels), "it", noted=noted[1])
    assert noted[0][0][1] >= pixels[:, :, :3].max()


@pytest.mark.parametrize("pixels", [of_bits(16), of_bits(16) * 0, of_bits(16) >> 1], ids=["bright", "black", "half"])
def test_an_ordinary_16_bit_image_is_not_reported(noted, pixels):
    decode_image(png_of(pixels), noted=noted[1])
    assert noted[0] == []


def test_a_program_logs_it_once_with_what_to_do(noted, tmp_path, caplog):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png_of(of_bits(12)))
        read_image(tmp_path / name)
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"a.png: a 16-bit image, the largest value is {of_bits(12).max()} of 65535" in line
    assert "12-bit data? If the data have 12 bits, scale them (values << 4), or state the bits in the file" in line
    assert "MaxSampleValue 4095 in a TIFF, sBIT 12 in a PNG" in line


def test_following_the_advice_gives_the_right_image(noted):
    assert np.array_equal(decode_image(png_of(of_bits(12) << 4), noted=noted[1]), PICTURE)
    assert noted[0] == []
