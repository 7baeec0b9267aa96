import numpy as np

from edgeclf_runtime.classify.label_sets import label_sets, names_of

LABELS = ("cat", "dog", "horse")
CONFIDENCES = np.array([[0.5, 0.1, 0.4], [0.34, 0.33, 0.33]])


def test_a_set_has_the_labels_that_reach_the_threshold_the_likeliest_first():
    members = label_sets(CONFIDENCES, 0.4)
    assert names_of(members[0], CONFIDENCES[0], LABELS) == ["cat", "horse"]


def test_a_set_is_empty_if_no_label_is_likely_enough():
    assert names_of(label_sets(CONFIDENCES, 0.4)[1], CONFIDENCES[1], LABELS) == []


def test_confidences_that_are_not_finite_rule_nothing_out():
    assert label_sets(np.full((1, 3), np.nan), 0.4).all()
