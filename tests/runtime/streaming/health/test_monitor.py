import json

import numpy as np
import pytest

from edgeclf_runtime.streaming.health.learning import Learner
from edgeclf_runtime.streaming.health.measures import measure
from edgeclf_runtime.streaming.health.monitor import Monitor
from edgeclf_runtime.streaming.health.symptoms import UNKNOWN
from tests.support import scenes
from tests.support.scenes import scene, training

FAULTS = {
    "dark": lambda picture: (picture * 0.25).astype(np.uint8),
    "overexposed": lambda picture: (picture * 3.0).clip(0, 255).astype(np.uint8),
    "color cast": scenes.tinted,
    "noisy": scenes.noisy,
    "blurred": scenes.blurred,
    "dirty or covered": scenes.dirty,
    "moved": scenes.moved,
    "without color": scenes.gray,
}


@pytest.fixture(scope="module")
def baseline():
    return training()


@pytest.fixture
def monitor(baseline):
    return Monitor(baseline, ["empty", "full"])


def play(monitor, numbers, change=lambda picture: picture, light=1.0, index=None, confidence=0.9, distance=None):
    """Show the pictures with these numbers; returns the changes as (verdict, whether it begins)."""
    found = []
    for number in numbers:
        found += monitor.add_image(measure(change(scene(number, light))))
        monitor.add_result(number % 2 if index is None else index, confidence, distance, 2.9)
    return [(change.verdict, change.active) for change in found]


@pytest.mark.parametrize("light", [1.0, 0.6])
def test_days_and_nights_as_in_training_give_no_verdict(monitor, light):
    assert play(monitor, range(1000, 1600), light=light) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_within_300_images(monitor, fault):
    light = 0.6 if fault == "dark" else 1.0
    assert play(monitor, range(1000, 1300), FAULTS[fault], light)[:1] == [(fault, True)]


def test_a_lens_cap_covers_it(monitor):
    assert play(monitor, range(1000, 1300), lambda picture: picture // 64)[:1] == [("covered", True)]


def test_a_verdict_has_its_figure(monitor):
    play(monitor, range(1000, 1300), FAULTS["dark"], 0.6)
    assert "dark: the mean brightness (0 to 255) is" in monitor.text("dark")


def test_a_short_disturbance_gives_no_verdict(monitor):
    assert play(monitor, range(1000, 1040), scenes.blurred) == []
    assert play(monitor, range(1040, 1400)) == []


def test_a_verdict_ends_only_after_a_while(monitor):
    play(monitor, range(1000, 1300), scenes.tinted)
    assert play(monitor, range(1300, 1350)) == []
    assert play(monitor, range(1350, 2000)) == [("color cast", False)]


def test_low_confidences_are_a_new_kind_of_image(monitor):
    assert play(monitor, range(1000, 1300), confidence=0.3) == [("new kind of image", True)]


def test_distances_beyond_the_usual_are_a_new_kind_of_image(baseline):
    monitor = Monitor(baseline, ["empty", "full"], distances=True)
    assert play(monitor, range(1000, 1300), distance=3.0) == [("new kind of image", True)]
    assert "% of the latest images are farther than 2.9 from the training images, usual is 5 %" in monitor.text(UNKNOWN)


def test_a_model_that_gives_a_distance_may_be_unsure(baseline):
    monitor = Monitor(baseline, ["empty", "full"], distances=True)
    assert play(monitor, range(1000, 1300), confidence=0.3, distance=2.8) == []


@pytest.mark.parametrize("distance", [float("nan"), float("inf")])
def test_a_distance_that_is_not_finite_is_far(baseline, distance):
    monitor = Monitor(baseline, ["empty", "full"], distances=True)
    assert play(monitor, range(1000, 1300), distance=distance) == [("new kind of image", True)]


def test_confidences_count_after_a_fallback_to_a_model_without_distance(baseline):
    monitor = Monitor(baseline, ["empty", "full"], distances=True)
    assert play(monitor, range(1000, 1100), distance=1.0) == []
    assert play(monitor, range(1100, 1400), confidence=0.3) == [("new kind of image", True)]
    assert "have a confidence below 0.60" in monitor.text(UNKNOWN)


def foreign(number):
    """An object that is larger and flatter than those of training."""
    picture = scene(number).copy()
    picture[20:70, 20:76] = 90
    return picture


def test_new_objects_among_known_ones_are_not_dirt(baseline):
    monitor, found = Monitor(baseline, ["empty", "full"], distances=True), []
    for number in range(1000, 1400):
        is_new = number % 2
        found += monitor.add_image(measure(foreign(number) if is_new else scene(number)))
        monitor.add_result(is_new, 0.9, 9.0 if is_new else 0.0, 2.9)
    assert [change.verdict for change in found] == ["new kind of image"]


def test_dirt_is_dirt_even_if_only_some_distances_are_unusual(baseline):
    monitor, found = Monitor(baseline, ["empty", "full"], distances=True), []
    for number in range(1000, 1400):
        found += monitor.add_image(measure(scenes.dirty(scene(number))))
        monitor.add_result(number % 2, 0.9, 9.0 if number % 3 else 0.0, 2.9)
    assert [change.verdict for change in found] == ["dirty or covered"]


def test_one_label_for_long_is_another_mix(monitor):
    assert play(monitor, range(1000, 1300), index=1) == [("label mix changed", True)]


def test_a_fault_that_confuses_the_model_keeps_its_own_name(monitor):
    assert play(monitor, range(1000, 1400), scenes.moved, confidence=0.3) == [("moved", True)]


def test_the_same_picture_again_and_again_is_frozen_until_it_moves(monitor):
    assert play(monitor, [1000] * 150) == [("frozen", True)]
    assert play(monitor, [1001]) == [("frozen", False)]


def test_an_object_that_stays_is_one_image_not_many(monitor):
    # The darkest of many objects is beyond the near limits, but such objects exist.
    numbers = range(1000, 1200)
    darkest = min(numbers, key=lambda number: scene(number, 0.57).mean())
    still = scene(darkest, 0.57)
    random = np.random.RandomState(0)
    found = []
    for _ in range(600):
        noisy = (still + random.standard_normal(still.shape)).clip(0, 255).astype(np.uint8)
        found += monitor.add_image(measure(noisy))
    assert found == []


def test_a_restart_goes_on_where_it_was(monitor, baseline):
    play(monitor, range(1000, 1080), scenes.tinted)
    other = Monitor(baseline, ["empty", "full"])
    other.restore(json.loads(json.dumps(monitor.state())))
    assert play(other, range(1080, 1110), scenes.tinted) == [("color cast", True)]


def test_the_state_is_small(baseline):
    many = baseline._replace(labels=(0.001,) * 1000)
    monitor = Monitor(many, [str(number) for number in range(1000)])
    play(monitor, range(1000, 1100))
    state = dict(monitor.state(), learned=many.to_dict())
    assert len(json.dumps(state)) < 64 << 10


def test_what_was_learned_on_the_site_is_usual_there(baseline):
    learner = Learner(baseline, images=400)
    learned = [learner.add(measure(scenes.moved(scene(number)))) for number in range(1000, 1400)]
    assert learned[:-1] == [None] * 399
    monitor = Monitor(learned[-1], ["empty", "full"])
    assert play(monitor, range(1400, 1900), scenes.moved) == []
    assert play(monitor, range(1900, 2200))[:1] == [("moved", True)]
