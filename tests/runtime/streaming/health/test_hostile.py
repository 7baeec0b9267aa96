"""Statistics, pictures and cameras that nobody expects: a sensible verdict or none, and never an exception."""

import json

import numpy as np
import pytest

from edgeclf_runtime.streaming.health.baseline import NAMES, parse_baseline
from edgeclf_runtime.streaming.health.measures import measure
from edgeclf_runtime.streaming.health.monitor import Monitor
from edgeclf_runtime.streaming.health.symptoms import ORDER
from tests.support.scenes import SIDE, gray, noisy, scene, training

LABELS = ["empty", "full"]


@pytest.fixture(scope="module")
def baseline():
    return training()


def verdicts(baseline, pictures, **result):
    """Show pictures to a new monitor; returns the verdicts that begin, in order."""
    monitor, found = Monitor(baseline, LABELS, distances=True), []
    for number, picture in enumerate(pictures):
        found += [change.verdict for change in monitor.add_image(measure(picture)) if change.active]
        monitor.add_result(number % 2, 0.9, **result)
    assert all(monitor.text(name) for name in monitor.active)
    return found


def absurd(baseline, change):
    """A baseline of which something is absurd, as a bundle's health.json may hold it."""
    value = json.loads(json.dumps(baseline.to_dict()))
    change(value)
    return parse_baseline(value, len(LABELS))


@pytest.mark.parametrize("bound", [-1e6, 1e6])
def test_limits_that_no_picture_meets_give_verdicts_with_a_text(baseline, bound):
    def change(value):
        value["limits"] = {name: {"near": [bound, bound], "far": [bound, bound]} for name in NAMES}

    assert verdicts(absurd(baseline, change), map(scene, range(1000, 1150)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bound", [-1e6, 1e6])
def test_one_limit_that_no_picture_meets_gives_at_most_its_verdict(baseline, name, bound):
    def change(value):
        value["limits"][name] = {"near": [bound, bound], "far": [bound, bound]}

    assert len(verdicts(absurd(baseline, change), map(scene, range(1000, 1250)))) <= 1


def test_limits_that_every_picture_meets_give_no_verdict(baseline):
    def change(value):
        value["limits"] = {name: {"near": [-1e6, 1e6], "far": [-1e6, 1e6]} for name in NAMES}

    assert verdicts(absurd(baseline, change), map(noisy, map(scene, range(1000, 1250)))) == []


@pytest.mark.parametrize("level", [-1e3, 0, 1e3])
def test_a_layout_of_any_numbers_is_compared(baseline, level):
    def change(value):
        for name, numbers in value["layout"].items():
            value["layout"][name] = [level if number % 2 else -level for number in range(len(numbers))]

    assert set(verdicts(absurd(baseline, change), map(scene, range(1000, 1250)))) <= set(ORDER)


@pytest.mark.parametrize("share", [0, 1])
def test_shares_of_nothing_and_of_everything_raise_nothing(baseline, share):
    def change(value):
        value.update(labels=[share, share], low=[share, share])

    assert set(verdicts(absurd(baseline, change), map(scene, range(1000, 1250)))) <= {"label mix changed"}


def test_a_usual_distance_that_no_image_meets_is_reported(baseline):
    pictures = map(scene, range(1000, 1250))
    assert verdicts(baseline, pictures, distance=0.0, usual_distance=-1e6) == ["new kind of image"]
    assert verdicts(baseline, map(scene, range(1000, 1250)), distance=1e30, usual_distance=1e6) == ["new kind of image"]


def infrared(number):
    """A color camera by night: gray, a lamp in the middle, and noise."""
    lamp = np.exp(-((np.indices((SIDE, SIDE)) - SIDE / 2) ** 2).sum(0) / 1500)[..., None]
    return noisy((gray(scene(number)) * (0.6 + 0.6 * lamp)).clip(0, 255).astype(np.uint8))


def test_a_color_camera_in_infrared_is_without_color(baseline):
    assert verdicts(baseline, map(infrared, range(1000, 1300)))[:1] == ["without color"]


def screen_saver(number):
    """A logo that wanders over a black screen."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    left, top = (number * 3) % 70, (number * 2) % 80
    picture[top : top + 14, left : left + 24] = 80, 160, 220
    return picture


def test_a_screen_saver_is_dark(baseline):
    assert verdicts(baseline, map(screen_saver, range(300)))[:1] == ["dark"]


def no_signal(number):
    """A frame grabber without a signal."""
    return np.full((SIDE, SIDE, 3), (0, 0, 255), np.uint8)


def test_a_screen_without_signal_is_frozen(baseline):
    assert "frozen" in verdicts(baseline, map(no_signal, range(150)))


def cap(number, gain=1.0):
    """A lens cap: only the sensor's noise."""
    random = np.random.RandomState(number)
    return (4 * gain + random.standard_normal((SIDE, SIDE, 3)) * gain).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_a_lens_cap_covers_the_picture_whatever_the_gain(baseline, gain):
    assert verdicts(baseline, (cap(number, gain) for number in range(200)))[:1] == ["covered"]


def test_a_lens_cap_covers_the_picture_also_if_training_images_vary_much(baseline):
    limits = baseline.limits["brightness"]
    varied = baseline._replace(limits=dict(baseline.limits, brightness=limits._replace(far=(-20.0, 250.0))))
    assert verdicts(varied, (cap(number, 0.3) for number in range(200)))[:1] == ["covered"]


@pytest.mark.parametrize("level", [0, 255])
def test_a_dead_sensor_is_frozen(baseline, level):
    found = verdicts(baseline, [np.full((SIDE, SIDE, 3), level, np.uint8)] * 200)
    assert "frozen" in found


def test_a_gray_training_set_never_misses_color(baseline):
    from edgeclf_runtime.streaming.health.baseline import fit_baseline

    night = fit_baseline([measure(gray(scene(number))) for number in range(120)])
    assert verdicts(night, map(gray, map(scene, range(1000, 1300)))) == []
