"""Masks, which hide parts of a camera's picture from everyone."""

import numpy as np
import pytest

from edgeclf_runtime.capture.masked_camera import MaskedCamera, read_mask
from edgeclf_runtime.errors import CameraError, CameraLost, EndOfStream, OptionError
from edgeclf_runtime.fake import FakeCamera
from tests.support.pictures import encode, noise


@pytest.fixture
def paint(tmp_path):
    """Write a mask of a size, black in some part, and return its path."""

    def write(width, height, black):
        pixels = np.full((height, width, 3), 255, np.uint8)
        pixels[black] = 0
        (tmp_path / "mask.png").write_bytes(encode(".png", pixels))
        return str(tmp_path / "mask.png")

    return write


LEFT = np.s_[:, :32]


def masked(image, path):
    with MaskedCamera(FakeCamera([image]), read_mask(path)) as camera:
        return camera.read().image


def test_what_is_black_in_the_mask_is_black_in_the_frame_and_the_rest_stays(paint):
    image = noise(64, 48)
    found = masked(image.copy(), paint(64, 48, LEFT))
    assert not found[:, :32].any()
    assert np.array_equal(found[:, 32:], image[:, 32:])


@pytest.mark.parametrize("size", [(16, 12), (640, 480)], ids=["smaller", "larger"])
def test_a_mask_of_another_size_and_the_same_shape_is_scaled(paint, size):
    image = noise(64, 48)
    found = masked(image.copy(), paint(*size, np.s_[:, : size[0] // 2]))
    assert not found[:, :32].any()
    assert np.array_equal(found[:, 32:], image[:, 32:])


def test_a_mask_of_another_shape_is_refused_with_both_sizes(paint):
    with pytest.raises(CameraError, match=r"the mask has 64 x 64 pixels, but the frames have 64 x 48: give --mask"):
        masked(noise(64, 48), paint(64, 64, LEFT))


def test_a_frame_that_cannot_be_changed_is_copied(paint):
    image = noise(64, 48)
    image.flags.writeable = False
    found = masked(image, paint(64, 48, LEFT))
    assert not found[:, :32].any()
    assert image[:, :32].any()


def test_frames_of_another_size_get_a_mask_of_theirs(paint):
    camera = MaskedCamera(FakeCamera([noise(64, 48), noise(128, 96)]), read_mask(paint(64, 48, LEFT)))
    with camera:
        assert [int(camera.read().image[:, : 32 * scale].max()) for scale in (1, 2)] == [0, 0]


def test_everything_else_is_the_cameras_own(paint):
    inner = FakeCamera([noise(64, 48)], fps=5)
    with MaskedCamera(inner, read_mask(paint(64, 48, LEFT))) as camera:
        assert camera.wait_opened() is camera
        for name in ("name", "policy", "rate", "mode", "comes_back"):
            assert getattr(camera, name) == getattr(inner, name)
        camera.read()
        with pytest.raises(EndOfStream):
            camera.read()
        inner.skipped, inner.read = 7, lambda timeout_s: (_ for _ in ()).throw(CameraLost("pulled"))
        with pytest.raises(CameraLost):
            camera.read()
        assert camera.skipped == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"no picture", "--mask: .*mask.png"), ("black", "hides the whole picture")],
)
def test_a_file_that_is_no_mask_is_refused(tmp_path, paint, content, message):
    path = tmp_path / "mask.png"
    if content == "black":
        paint(64, 48, np.s_[:])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(OptionError, match=message):
        read_mask(str(path))
