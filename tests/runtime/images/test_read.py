import os
import socket
import struct

import cv2
import numpy as np
import pytest

from edgeclf_runtime.errors import ImageError
from edgeclf_runtime.images.read import decode_image, image_paths, is_image_name, read_image
from tests.support.pictures import CMYK_JPEG, corners, encode, png_bomb, quarters

UPRIGHT = ["red", "green", "blue", "yellow"]
JPEG = encode(".jpg", quarters())
LOSSLESS_WEBP = (cv2.IMWRITE_WEBP_QUALITY, 101)


def refusal(data):
    with pytest.raises(ImageError) as caught:
        decode_image(data, "photo")
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_lossless_file_gives_the_pixels_that_were_written(suffix):
    assert np.array_equal(decode_image(encode(suffix, quarters())), quarters())


def test_a_lossless_webp_gives_the_pixels_that_were_written():
    assert np.array_equal(decode_image(encode(".webp", quarters(), *LOSSLESS_WEBP)), quarters())


@pytest.mark.parametrize("data", [JPEG, encode(".webp", quarters()), CMYK_JPEG], ids=["jpeg", "webp", "cmyk jpeg"])
def test_a_lossy_file_gives_the_colors_that_a_person_sees(data):
    assert corners(decode_image(data)) == UPRIGHT


def test_a_progressive_jpeg_is_read():
    assert corners(decode_image(encode(".jpg", quarters(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1))) == UPRIGHT


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_gray_file_has_three_equal_channels(suffix):
    image = decode_image(encode(suffix, quarters()[:, :, 1]))
    assert image.shape == (16, 32, 3)
    assert np.array_equal(image[:, :, 0], image[:, :, 2])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_become_eight(suffix):
    image = decode_image(encode(suffix, quarters().astype(np.uint16) * 257))
    assert image.dtype == np.uint8
    assert np.array_equal(image, quarters())


def test_sixteen_bit_gray_becomes_eight_bit_color():
    image = decode_image(encode(".png", quarters()[:, :, 1].astype(np.uint16) * 257))
    assert np.array_equal(image, quarters()[:, :, [1, 1, 1]])


def test_the_alpha_channel_is_left_out():
    alpha = np.linspace(0, 255, 16 * 32).astype(np.uint8).reshape(16, 32, 1)
    assert np.array_equal(decode_image(encode(".png", np.concatenate([quarters(), alpha], 2))), quarters())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_truncated_file_is_refused(suffix, share):
    data = encode(suffix, quarters(300, 200))
    assert "replace or remove it" in refusal(data[: int(len(data) * share)])


@pytest.mark.parametrize(("suffix", "name"), [(".jpg", "JPEG"), (".png", "PNG"), (".bmp", "BMP"), (".webp", "WebP")])
def test_a_truncated_file_is_called_truncated(suffix, name):
    assert f"the {name} is truncated" in refusal(encode(suffix, quarters(300, 200))[:-3])


def test_a_jpeg_with_a_thumbnail_is_truncated_if_its_own_end_is_missing():
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(JPEG) + 2) + JPEG
    data = JPEG[:2] + thumbnail + JPEG[2:]
    assert corners(decode_image(data)) == UPRIGHT
    assert "truncated" in refusal(data[:-2])


def test_a_bomb_is_refused_before_it_is_decoded():
    bomb = png_bomb(10000, 6000)
    assert len(bomb) < 20000
    assert refusal(bomb) == "photo: 10000 x 6000 is 60.0 megapixels, more than the 50 allowed; shrink the image"


def test_a_jpeg_that_says_it_is_huge_is_refused_before_it_is_decoded():
    at = JPEG.index(b"\xff\xc0") + 5
    huge = JPEG[:at] + struct.pack(">HH", 6000, 10000) + JPEG[at + 4 :]
    assert "10000 x 6000 is 60.0 megapixels" in refusal(huge)


def test_the_largest_allowed_image_is_read():
    assert decode_image(png_bomb(400, 100), max_pixels=40000).shape == (100, 400, 3)


@pytest.mark.parametrize(
    "data",
    [b"not a picture\n", b"RIFF\4\0\0\0WAVE"],
    ids=["text", "WAVE"],
)
def test_another_kind_of_file_is_not_an_image(data):
    assert "replace or remove it" in refusal(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GIF89a" + bytes(50), "a GIF"),
        (b"%PDF-1.4", "a PDF"),
        (b"P5\n2 2\n255\n1234", "a Netpbm image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "a JPEG 2000 image"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "a HEIC photograph"),
        (b"\0\0\0\x18ftypavif" + bytes(50), "an AVIF image"),
    ],
)
def test_a_format_that_is_not_read_is_named(data, name):
    assert refusal(data) == f"photo: {name}; JPEG, PNG, BMP, WebP or TIFF was expected, convert it to PNG"


def test_an_image_without_pixels_is_refused():
    bmp = encode(".bmp", quarters())
    assert "0 x 16 pixels" in refusal(bmp[:18] + bytes(4) + bmp[22:])


def test_an_os2_bitmap_has_the_size_in_its_short_header():
    pixels = quarters()[::-1].tobytes()
    data = struct.pack("<2sIHHI", b"BM", 26 + len(pixels), 0, 0, 26) + struct.pack("<IHHHH", 12, 32, 16, 1, 24) + pixels
    assert np.array_equal(decode_image(data), quarters())


def test_every_kind_of_damage_to_a_header_is_an_image_error():
    for suffix in (".jpg", ".png", ".bmp", ".webp", ".tif"):
        data = bytearray(encode(suffix, quarters()))
        for at in range(min(len(data), 64)):
            damaged = bytearray(data)
            damaged[at] ^= 0xFF
            try:
                image = decode_image(bytes(damaged))
            except ImageError:
                continue
            assert image.ndim == 3


def test_the_content_counts_and_not_the_suffix(tmp_path):
    (tmp_path / "photo.png").write_bytes(JPEG)
    assert corners(read_image(tmp_path / "photo.png")) == UPRIGHT


def test_a_path_may_hold_spaces_and_other_letters(tmp_path):
    path = tmp_path / "Zelle 7 \u00fc\u00df\u4e2d" / "Bild \u00e4.JPG"
    path.parent.mkdir()
    path.write_bytes(JPEG)
    assert corners(read_image(path)) == UPRIGHT


def test_a_missing_file_and_an_empty_file_are_distinguished(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name, reason in (("gone.jpg", "No such file"), ("empty.jpg", "the file is empty")):
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)


def test_what_is_not_a_file_is_refused_at_once_and_by_its_kind(tmp_path):
    os.mkfifo(str(tmp_path / "pipe.jpg"))
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
        for kind in ("pipe", "device", "folder", "socket"):
            name = "zero.jpg" if kind == "device" else kind + ".jpg"
            with pytest.raises(ImageError, match=name + ".*" + kind):
                read_image(tmp_path / name)


def test_a_link_to_a_photograph_is_read(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(JPEG)
    (tmp_path / "link.jpg").symlink_to("photo.jpg")
    assert corners(read_image(tmp_path / "link.jpg")) == UPRIGHT


def test_a_file_that_is_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeclf_runtime.images.read.MAX_BYTES", 1 << 20)
    (tmp_path / "photo.jpg").write_bytes(JPEG + bytes(1 << 20))
    with pytest.raises(ImageError, match="larger than the 1 MB allowed"):
        read_image(tmp_path / "photo.jpg")


@pytest.mark.parametrize("name", ["photo.jfif", "photo.jpe", "photo.JIF", "photo.pjpeg", "photo.dib", "photo.apng"])
def test_other_names_of_the_formats_are_known(name):
    assert is_image_name(name)


def test_image_names_are_known_in_either_case():
    assert is_image_name("A.JPG")
    assert is_image_name("b.Tiff")
    assert not is_image_name("notes.txt")


def test_files_of_a_folder_that_are_left_out_are_counted_by_suffix(tmp_path, caplog):
    for name in ("cat.png", "a.HEIC", "b.heic", "notes.txt", "README", "Thumbs.db", ".hidden.txt"):
        (tmp_path / name).touch()
    (tmp_path / "more.txt").mkdir()
    assert image_paths(tmp_path) == [str(tmp_path / "cat.png")]
    [message] = caplog.messages
    assert message.startswith(f"{tmp_path}: files left out, by suffix: .heic (2), ")
    assert {".txt (1)", "(none) (1)"} <= set(message.partition(";")[0].split(", "))
    assert ".db" not in message
