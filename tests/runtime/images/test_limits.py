"""Images whose size is above a limit, or is not what their header says."""

import errno
import os
import subprocess
import sys

import pytest

from edgeclf_runtime.errors import ImageError
from edgeclf_runtime.images.formats import read_picture
from edgeclf_runtime.images.read import _decode, decode_image
from tests.support.image_files import (
    png,
    progressive_jpeg,
    zeros,
)
from tests.support.pictures import encode, quarters

JPEG = encode(".jpg", quarters())


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
