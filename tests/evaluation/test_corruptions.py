"""Corruptions are the same for the same pixels, and do what their units say."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from edgeclf.evaluation.robustness.corruptions import TABLE, corrupt, reduced
from edgeclf.options import CORRUPTIONS
from edgeclf_runtime.files.read import sha256_bytes
from edgeclf_runtime.images.preprocess import Preprocessing


@pytest.fixture(scope="module")
def photo():
    """A photograph of a flower, uint8 [213, 320, 3], BGR."""
    image = cv2.cvtColor(load_sample_image("flower.jpg"), cv2.COLOR_RGB2BGR)
    return cv2.resize(image, (320, 213), interpolation=cv2.INTER_AREA)


def distance(a, b):
    return float(np.abs(a.astype(float) - b).mean())


def test_the_options_name_every_corruption():
    assert tuple(TABLE) == CORRUPTIONS
    assert {len(corruption.values) for corruption in TABLE.values()} == {5}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_photograph_is_corrupted_in_the_same_way_and_not_changed_itself(photo, name):
    before = photo.copy()
    first = corrupt(photo, name, 3)
    assert np.array_equal(first, corrupt(np.asfortranarray(photo), name, 3))
    assert np.array_equal(photo, before)
    assert (first.shape, first.dtype) == (photo.shape, np.uint8)


def test_another_process_corrupts_alike(photo, tmp_path):
    np.save(tmp_path / "photo.npy", photo)
    script = (
        "import sys, numpy\n"
        "from edgeclf.evaluation.robustness.corruptions import corrupt\n"
        "from edgeclf_runtime.files.read import sha256_bytes\n"
        "photo = numpy.load(sys.argv[1])\n"
        "for name in ('noise', 'motion'): print(sha256_bytes(corrupt(photo, name, 5).tobytes()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "photo.npy"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [sha256_bytes(corrupt(photo, name, 5).tobytes()) for name in ("noise", "motion")]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_changes_the_photograph_more(photo, name):
    distances = [distance(photo, corrupt(photo, name, severity)) for severity in range(1, 6)]
    assert distances[0] > 0
    assert distances == sorted(distances)


@pytest.mark.parametrize("name", ["noise", "motion", "rotation", "color-cast"])
def test_other_photographs_are_corrupted_in_other_ways(photo, name):
    # A pixel more or less is another photograph; of two directions, some of eight differ.
    found = set()
    for number in range(8):
        image = np.full((64, 64, 3), 128, np.uint8)
        image[20:40, 30:34] = 255
        image[0, 0, 0] = number
        found.add(corrupt(image, name, 5)[2:].tobytes())
    assert len(found) > 1


def test_one_stop_less_is_half_of_the_light(photo):
    light = [float(((image / 255) ** 2.2).mean()) for image in (photo, corrupt(photo, "dark", 1))]
    assert light[1] / light[0] == pytest.approx(0.5, abs=0.01)


def test_the_noise_is_that_of_the_electrons():
    gray = np.full((400, 400, 3), 128, np.uint8)
    signal = 120 * 128 / 255  # electrons at severity 3
    expected = np.sqrt(signal + 1.5**2) * 255 / 120
    assert corrupt(gray, "noise", 3).std() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", ["defocus", "motion"])
def test_blur_keeps_the_brightness_and_an_even_image(name):
    point = np.zeros((200, 200, 3), np.uint8)
    point[100, 100] = 255
    spread = corrupt(np.kron(point, np.ones((1, 1, 1), np.uint8)), name, 5)
    assert spread.max() < 100
    even = np.full((64, 48, 3), 77, np.uint8)
    assert np.array_equal(corrupt(even, name, 5), even)


def test_motion_is_as_long_as_it_says():
    point = np.zeros((200, 200, 3), np.uint8)
    point[100, 100] = 255
    y, x = np.nonzero(corrupt(point, "motion", 5)[:, :, 0])
    assert np.hypot(np.ptp(x), np.ptp(y)) == pytest.approx(0.09 * 200, abs=2.5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (64, 3)])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_smallest_images_can_be_corrupted(name, shape):
    assert corrupt(np.full((*shape, 3), 9, np.uint8), name, 5).shape == (*shape, 3)


def test_large_photographs_are_halved_as_preprocessing_does():
    spec = Preprocessing(64, 64)
    assert reduced(np.zeros((3001, 4000, 3), np.uint8), spec).shape == (93, 125, 3)
    assert reduced(np.zeros((127, 4000, 3), np.uint8), spec).shape == (127, 4000, 3)
