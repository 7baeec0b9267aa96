"""Image files that are designed to mislead a decoder, to stall it, or to expose uninitialized memory."""

import errno
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from edgeclf_runtime.errors import ImageError
from edgeclf_runtime.images.formats import read_picture
from edgeclf_runtime.images.read import _decode, decode_image
from tests.support.image_files import (
    bmp,
    canvas,
    frame,
    hidden_frame,
    png,
    png_chunks,
    progressive_jpeg,
    riff,
    scan,
    segment,
    strips,
    tables,
    tiff,
    webp_chunk,
    zeros,
)
from tests.support.pictures import corners, encode, quarters

UPRIGHT = ["red", "green", "blue", "yellow"]
JPEG = encode(".jpg", quarters())
PROGRESSIVE = encode(".jpg", quarters(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
LOSSY = encode(".webp", quarters(), cv2.IMWRITE_WEBP_QUALITY, 90)[20:]
LOSSLESS = encode(".webp", quarters(), cv2.IMWRITE_WEBP_QUALITY, 101)[20:]
ROWS = b"".join(b"\0" + row.tobytes() for row in quarters()[:, :, ::-1])
PNG = png(32, 16, 8, 2, (b"IDAT", zlib.compress(ROWS)))


def refusal(data):
    with pytest.raises(ImageError) as caught:
        decode_image(data, "photo")
    assert str(caught.value).startswith("photo: ")
    return str(caught.value)


# JPEG


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


# PNG


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


# WebP


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


# BMP


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


# TIFF


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


# All of them


def run(script, **environment):
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", script]
    try:
        return subprocess.check_output(command, env=dict(os.environ, PYTHONPATH=path, **environment)).decode()
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return pytest.skip("an emulated processor starts no programs")


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ("", 50000000),
        ("1000000000", 50000000),
        ("900MB", 50000000),
        ("junk", 50000000),
        ("-1", 50000000),
        ("1000", 1000),
    ],
)
def test_opencvs_own_limit_is_at_most_ours(there, expected):
    script = "import edgeclf_runtime, os, cv2; print(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'])"
    assert int(run(script, OPENCV_IO_MAX_IMAGE_PIXELS=there)) == expected


def test_an_image_above_opencvs_limit_is_an_image_error(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(JPEG)
    script = (
        "from edgeclf_runtime.images.read import ImageError, read_image\n"
        "try: read_image({!r})\n"
        "except ImageError as error: print(error)"
    ).format(str(tmp_path / "photo.jpg"))
    assert "photo.jpg: OpenCV cannot decode it" in run(script, OPENCV_IO_MAX_IMAGE_PIXELS="100")


def test_a_larger_limit_than_ours_has_no_effect():
    with pytest.raises(ImageError, match=r"64.0 megapixels, more than the 50 allowed"):
        decode_image(progressive_jpeg(8000, 8000, 1), max_pixels=10**9)


def test_a_side_that_opencv_does_not_take_is_refused_by_name():
    with pytest.raises(ImageError, match="more than the 1048576 allowed for a side"):
        decode_image(png(2000000, 1, 1, 0, (b"IDAT", zeros(250001))))


def test_pixels_of_another_size_than_the_header_says_are_refused():
    picture = read_picture(JPEG)._replace(width=99)
    with pytest.raises(ImageError, match=r"photo: OpenCV decoded uint8 \(16, 32, 3\) for the 99 x 16 pixels"):
        _decode(JPEG, picture, "photo")


def test_a_bigtiff_is_not_read():
    assert "not an image" in refusal(b"II+\0\x08\0\0\0" + bytes(100))
