"""Photographs that EXIF or XMP says to turn, and how Pillow turns them."""

import struct
import zlib

import pytest

from edgeclf_runtime.images.read import decode_image
from tests.support.image_files import segment, strips, tiff, webp_chunk
from tests.support.pictures import corners, encode, png_chunk, quarters, with_orientation

UPRIGHT = ["red", "green", "blue", "yellow"]
# Orientation 6 turns by 90 degrees to the right.
TO_THE_RIGHT = ["blue", "red", "yellow", "green"]
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, ["red", "green", "blue", "yellow"]),
        (2, ["green", "red", "yellow", "blue"]),
        (3, ["yellow", "blue", "green", "red"]),
        (4, ["blue", "yellow", "red", "green"]),
        (5, ["red", "blue", "green", "yellow"]),
        (6, ["blue", "red", "yellow", "green"]),
        (7, ["yellow", "green", "blue", "red"]),
        (8, ["green", "yellow", "red", "blue"]),
    ],
)
def test_a_photograph_that_exif_rotates_comes_out_upright(suffix, orientation, seen):
    image = decode_image(with_orientation(encode(suffix, quarters()), orientation))
    assert corners(image) == seen
    assert image.shape == ((32, 16, 3) if orientation > 4 else (16, 32, 3))
    assert image.flags.c_contiguous


def test_a_damaged_exif_block_rotates_nothing():
    data = with_orientation(encode(".png", quarters()), 6)
    assert corners(decode_image(data.replace(b"MM\0*\0\0\0\x08", b"MM\0*\0\xff\0\x08"))) == UPRIGHT


# XMP


def jpeg(xmp):
    data = encode(".jpg", quarters())
    return data[:2] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp) + data[2:]


def png(xmp, kind=b"iTXt", flag=b"\0\0", keyword=b"XML:com.adobe.xmp"):
    data = encode(".png", quarters())
    text = flag + (b"\0\0" if kind == b"iTXt" else b"") + xmp
    return data[:33] + png_chunk(kind, keyword + b"\0" + text) + data[33:]


def webp(xmp):
    data = encode(".webp", quarters())
    canvas = struct.pack("<4sIB3xHBHB", b"VP8X", 10, 4, 31, 0, 15, 0)
    body = b"WEBP" + canvas + data[12:] + webp_chunk(b"XMP ", xmp)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tif(xmp, **changes):
    tags, body = strips(quarters(), **changes)
    return tiff([*tags, (700, 1, list(xmp))], body)


@pytest.mark.parametrize("file", [jpeg, png, webp, tif])
@pytest.mark.parametrize("xmp", [XMP, b"<tiff:Orientation>6</tiff:Orientation>", XMP.replace(b'"', b"'")])
def test_xmp_turns_a_photograph_without_exif(file, xmp):
    assert corners(decode_image(file(xmp))) == TO_THE_RIGHT


@pytest.mark.parametrize("file", [jpeg, png])
def test_exif_counts_before_xmp(file):
    assert corners(decode_image(with_orientation(file(XMP), 1))) == UPRIGHT


def test_the_orientation_tag_of_a_tiff_counts_before_xmp():
    assert corners(decode_image(tif(XMP, t274=[1]))) == UPRIGHT


def test_compressed_xmp_is_read():
    assert corners(decode_image(png(zlib.compress(XMP), flag=b"\1\0"))) == TO_THE_RIGHT


@pytest.mark.parametrize(
    "data", [png(b"<damaged", flag=b"\1\0"), png(zlib.compress(XMP)[:9], flag=b"\1\0"), jpeg(b""), tif(b"x")]
)
def test_damaged_xmp_turns_nothing(data):
    assert corners(decode_image(data)) == UPRIGHT


def test_a_text_that_inflates_to_gigabytes_is_read_up_to_a_megabyte():
    bomb = zlib.compress(bytes(1 << 26) + XMP)
    assert corners(decode_image(png(bomb, flag=b"\1\0"))) == UPRIGHT


# EXIF as hexadecimal text, by ImageMagick before version 7

EXIF = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)


def profile(digits):
    return b"\nexif\n%8d\n%s\n" % (len(EXIF), digits)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_hexadecimal_exif_turns_a_png(kind):
    digits = EXIF.hex().encode()
    text = profile(digits[:36] + b"\n" + digits[36:])
    data = png(
        zlib.compress(text) if kind == b"zTXt" else text,
        kind,
        b"\0" if kind == b"zTXt" else b"",
        b"Raw profile type exif",
    )
    assert corners(decode_image(data)) == TO_THE_RIGHT


@pytest.mark.parametrize("text", [b"", b"\nexif", profile(b"4d4"), profile(b"no digits"), profile(b"\xff\xfe")])
def test_damaged_hexadecimal_exif_turns_nothing(text):
    assert corners(decode_image(png(text, b"tEXt", b"", b"Raw profile type exif"))) == UPRIGHT
