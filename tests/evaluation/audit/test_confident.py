"""Confident learning, on a table small enough to compute by hand."""

import numpy as np
import pytest

from edgeclf.evaluation.audit.confident import LEAST, judge

EVERY = np.ones(6, bool)
LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.04, 0.96], [0.1, 0.9], [0.3, 0.7], [0.98, 0.02]])


def test_the_threshold_of_a_label_is_the_mean_probability_of_its_images():
    found = judge(PROBABILITIES, LABELS, EVERY, EVERY)
    assert found.thresholds == pytest.approx([(0.9 + 0.8 + 0.04) / 3, (0.9 + 0.7 + 0.02) / 3])


def test_the_joint_counts_the_images_above_a_threshold_by_given_and_likely_label():
    assert judge(PROBABILITIES, LABELS, EVERY, EVERY).joint.tolist() == [[2, 1], [1, 2]]


def test_the_most_suspicious_image_comes_first():
    found = judge(PROBABILITIES, LABELS, EVERY, EVERY)
    assert found.wrong.tolist() == [5, 2]
    assert found.suggested[found.wrong].tolist() == [0, 1]


def test_an_image_that_is_not_known_decides_no_threshold_but_is_judged():
    known = EVERY.copy()
    known[2] = False
    found = judge(PROBABILITIES, LABELS, known, EVERY)
    assert found.thresholds[0] == pytest.approx(0.85)
    # The image of 0.8 is below it.
    assert found.joint.tolist() == [[1, 0], [1, 2]]
    assert 2 in found.wrong


def test_an_image_that_is_not_judged_is_not_wrong():
    judged = EVERY.copy()
    judged[5] = False
    assert judge(PROBABILITIES, LABELS, EVERY, judged).wrong.tolist() == [2]


def test_a_label_without_judged_images_has_no_threshold():
    found = judge(np.tile([[0.2, 0.8]], (6, 1)), LABELS, EVERY, LABELS == 1)
    assert np.isnan(found.thresholds[0])
    assert found.wrong.size == 0


def test_an_image_is_not_wrong_if_no_other_label_is_likelier():
    probabilities = np.tile([[0.9, 0.1 / 3, 0.1 / 3, 0.1 / 3]], (8, 1))
    probabilities[-1] = (0.26, 0.25, 0.25, 0.24)
    found = judge(probabilities, np.zeros(8, int), np.ones(8, bool), np.ones(8, bool))
    assert found.wrong.size == 0
    assert found.quality[-1] > LEAST
