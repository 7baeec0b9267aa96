"""Frames in which nothing moves are left out; noise and slow light are not motion; a change is seen within a second."""

import numpy as np
import pytest

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.results import StreamResult
from edgeclf_runtime.streaming.motion import MotionGate
from edgeclf_runtime.streaming.stream import follow
from tests.support.pictures import noise

RATE = 30
WIDTH, HEIGHT = 320, 180  # the pixels that are sampled of a frame of 1280 x 720


def scene():
    """A soft picture, int16 [height, width, 3]."""
    across = np.linspace(60, 180, WIDTH)[None, :, None]
    down = np.linspace(-20, 20, HEIGHT)[:, None, None]
    return (across + down + np.array([0, 5, 10])).astype(np.int16)


SCENE = scene()
GRAINS = [np.random.RandomState(seed).normal(0, 1, SCENE.shape).astype(np.float32) for seed in range(8)]


def frame(picture=SCENE, sigma=6.0, number=0):
    """A frame with a sensor's noise."""
    grain = np.roll(GRAINS[number % len(GRAINS)], 37 * number, 1)
    return np.clip(picture + sigma * grain, 0, 255).astype(np.uint8)


def with_object(size, left, top=50, contrast=60):
    picture = SCENE.copy()
    picture[top : top + size, left : left + size] += contrast
    return picture


def passed(pictures, gate=None, sigma=6.0, start=0):
    """The numbers of the frames that pass, RATE a second."""
    gate = gate or MotionGate()
    images = (frame(picture, sigma, number) for number, picture in enumerate(pictures, start))
    return [number for number, image in enumerate(images, start) if gate.passes(image, number / RATE)]


def beats(after, before):
    """The numbers of the frames that pass although nothing moves: the first that is HEARTBEAT_S after the last."""
    return list(range(after + 29, before, 29))


def settled(sigma=6.0):
    """A gate that has seen a still scene for four seconds, and the number of the next frame."""
    gate = MotionGate()
    passed([SCENE] * 4 * RATE, gate, sigma)
    return gate, 4 * RATE


@pytest.mark.parametrize("sigma", [0, 3, 8, 15])
def test_a_still_scene_is_classified_once_a_second_however_noisy_its_sensor_is(sigma):
    numbers = passed([SCENE] * 20 * RATE, sigma=sigma)
    assert numbers == [*range(RATE), *beats(RATE - 1, 20 * RATE)]


def test_slow_light_is_not_motion():
    seconds = 20
    near = np.linspace(1, 0.5, WIDTH)[None, :, None]  # a window on the left
    pictures = [SCENE + (60 * number / (seconds * RATE) * near).astype(np.int16) for number in range(seconds * RATE)]
    assert passed(pictures) == [*range(RATE), *beats(RATE - 1, seconds * RATE)]


def test_an_exposure_that_jumps_is_seen_within_a_second_and_is_not_motion():
    gate, now = settled()
    numbers = passed([SCENE + 15] * 3 * RATE, gate, start=now)
    assert numbers[0] - now < RATE
    assert numbers[1:] == beats(numbers[0], now + 3 * RATE)


@pytest.mark.parametrize("sigma", [3, 8])
def test_a_small_object_is_seen_in_its_first_frame_and_every_frame_for_a_second_after(sigma):
    gate, now = settled(sigma)
    passed([SCENE] * 7, gate, sigma, now)
    appears = now + 7
    numbers = passed([with_object(12, 150)] * 2 * RATE, gate, sigma, appears)
    assert numbers == [*range(appears, appears + RATE), *beats(appears + RATE - 1, appears + 2 * RATE)]


def test_what_moves_slowly_is_seen_within_a_second():
    gate, now = settled()
    pictures = [with_object(20, 100 + number // 6) for number in range(3 * RATE)]
    assert np.diff(passed(pictures, gate, start=now)).max() <= 1
    gate, now = settled()
    numbers = passed([SCENE] * 5 + [with_object(8, 150, contrast=8)] * 2 * RATE, gate, start=now)
    assert min(number for number in numbers if number >= now + 5) - (now + 5) <= RATE


def test_a_picture_that_moves_as_a_whole_is_motion():
    gate, now = settled()
    stripes = SCENE + 40 * (np.arange(WIDTH) // 15 % 2)[None, :, None].astype(np.int16)
    passed([stripes] * 2 * RATE, gate, start=now)
    panned = [np.roll(stripes, 5 * number, 1) for number in range(1, RATE + 1)]
    assert len(passed(panned, gate, start=now + 2 * RATE)) == RATE


def test_only_motion_in_the_region_counts():
    gates = [MotionGate((0.0, 0.0, 0.5, 1.0)), MotionGate((0.5, 0.0, 0.5, 1.0)), MotionGate((0.0, 0.0, 1.0, 0.5), 90)]
    pictures = [SCENE] * 3 * RATE + [with_object(30, 50)] * 10
    found = [len([number for number in passed(pictures, gate) if number > 3 * RATE]) for gate in gates]
    # Turned clockwise by a quarter, the left half is the upper one.
    assert found == [9, 0, 9]


def test_another_size_and_a_time_that_goes_back_are_another_stream():
    gate, now = settled()
    assert gate.passes(frame()[:120], now / RATE)
    gate, now = settled()
    assert not gate.passes(frame(), now / RATE - 0.1)
    assert gate.passes(frame(), now / RATE - 1.5)


def test_an_image_smaller_than_a_block_can_move():
    gate = MotionGate()
    dark, light = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 200, np.uint8)
    assert [gate.passes(image, at) for image, at in ((dark, 0), (dark, 2), (dark, 2.5), (light, 3))] == [
        True,
        True,
        False,
        True,
    ]


def test_a_stream_yields_the_frames_that_pass_and_counts_the_others():
    images = [noise(64, 48)] * 60
    classifier = Classifier(FakeRunner([1, 0]), ["cat", "dog"], Preprocessing(8, 8))
    for at_once in (1, 2):
        gate = MotionGate()
        classifier._at_once = at_once
        items = [item for item in follow(classifier, FakeCamera(images), motion=gate) if item is not None]
        assert [item.frame.number for item in items if isinstance(item, StreamResult)] == [*range(15), 29, 44, 59]
        assert gate.still == 42
        assert items[-1].dropped == 0


class Resting(FakeCamera):
    """A camera that notes when it is let rest, and after which frame it is woken."""

    def __init__(self, images):
        super().__init__(images, fps=RATE)
        self.told = []

    def rest(self, resting):
        self.told.append(resting)


def test_a_camera_rests_while_nothing_moves_and_is_woken_by_the_first_motion():
    images = [frame(number=number) for number in range(3 * RATE)]
    images += [frame(with_object(40, 100), number=number) for number in range(5)]
    camera = Resting(images)
    classifier = Classifier(FakeRunner([1, 0]), ["cat", "dog"], Preprocessing(8, 8))
    list(follow(classifier, camera, motion=MotionGate()))
    assert camera.told == [True, False]
