import numpy as np
import pytest

from edgeclf_runtime.classify.label_sets import label_sets, label_thresholds, names_of
from edgeclf_runtime.errors import OptionError

LABELS = ("cat", "dog", "horse")
CONFIDENCES = np.array([[0.5, 0.1, 0.4], [0.34, 0.33, 0.33]])


def test_a_set_has_the_labels_that_reach_the_threshold_the_likeliest_first():
    members = label_sets(CONFIDENCES, 0.4)
    assert names_of(members[0], CONFIDENCES[0], LABELS) == ["cat", "horse"]


def test_a_set_is_empty_if_no_label_is_likely_enough():
    assert names_of(label_sets(CONFIDENCES, 0.4)[1], CONFIDENCES[1], LABELS) == []


def test_confidences_that_are_not_finite_rule_nothing_out():
    assert label_sets(np.full((1, 3), np.nan), 0.4).all()


def test_a_label_has_the_higher_of_its_own_and_the_common_threshold():
    found = label_thresholds(LABELS, 0.5, [("dog", 0.9), ("horse", 0.2)])
    assert found.tolist() == [0.5, 0.9, 0.5]


def test_a_threshold_of_an_unknown_label_is_refused():
    with pytest.raises(OptionError, match="there is no label 'cow'; the labels are: cat, dog, horse"):
        label_thresholds(LABELS, 0.5, [("cow", 0.9)])
