import math

import numpy as np
import pytest

from edgeclf_runtime.streaming.smoothing import Smoother

CAT, DOG = np.array([0.9, 0.1]), np.array([0.2, 0.8])


def test_the_first_frame_is_not_changed():
    mean, place = Smoother(1.0).update(CAT, 5.0)
    assert place == 0
    assert np.array_equal(mean, CAT)


def test_after_one_time_constant_the_old_weighs_one_part_in_e():
    smoother = Smoother(2.0, gap_s=100)
    smoother.update(CAT, 0.0)
    mean, _ = smoother.update(DOG, 2.0)
    assert mean == pytest.approx(DOG + (CAT - DOG) / math.e)
    assert mean.sum() == pytest.approx(1.0)


def test_the_rate_of_frames_does_not_matter():
    slow, fast = Smoother(1.0), Smoother(1.0)
    slow.update(CAT, 0.0)
    fast.update(CAT, 0.0)
    for step in range(1, 11):
        often, _ = fast.update(DOG, step / 10)
    once, _ = slow.update(DOG, 1.0)
    assert often == pytest.approx(once)


def test_a_single_wrong_frame_does_not_change_the_label():
    smoother = Smoother(1.0)
    places = [smoother.update(DOG if number == 10 else CAT, number / 30)[1] for number in range(20)]
    assert places == [0] * 20


def test_another_label_must_be_ahead_by_the_margin():
    nearly, clearly = Smoother(0.1, margin=0.1), Smoother(0.1, margin=0.1)
    for smoother in (nearly, clearly):
        smoother.update(CAT, 0.0)
    for number in range(1, 40):
        near = nearly.update(np.array([0.46, 0.54]), number / 30)[1]
        clear = clearly.update(np.array([0.44, 0.56]), number / 30)[1]
    assert (near, clear) == (0, 1)


def test_it_starts_over_after_a_gap():
    smoother = Smoother(0.1)
    smoother.update(CAT, 0.0)
    mean, place = smoother.update(DOG, 2.1)
    assert place == 1
    assert np.array_equal(mean, DOG)


def test_a_reset_forgets_earlier_frames():
    smoother = Smoother(1.0)
    smoother.update(CAT, 0.0)
    smoother.reset()
    assert smoother.update(DOG, 0.01)[1] == 1


def test_distances_are_averaged_with_the_weight_of_their_frame():
    smoother = Smoother(1.0)
    smoother.update(np.array([0.5, 0.5]), 0.0)
    assert smoother.distance(2.0) == 2.0
    smoother.update(np.array([0.5, 0.5]), math.log(2))
    assert smoother.distance(4.0) == pytest.approx(3.0)
    assert smoother.distance(None) is None


def test_an_infinite_distance_is_forgotten_like_any_other():
    smoother = Smoother(0.1)
    for frame, distance in enumerate([1.0, math.inf] + [1.0] * 50):
        smoother.update(np.array([0.5, 0.5]), frame * 0.1)
        found = smoother.distance(distance)
    assert found == pytest.approx(1.0, abs=0.01)
