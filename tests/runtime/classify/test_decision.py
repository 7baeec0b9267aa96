import collections

import numpy as np
import pytest

from edgeclf_runtime.classify.decision import Decider, allowed_indices, softmax
from edgeclf_runtime.classify.rejection import Rejection
from edgeclf_runtime.errors import OptionError

LABELS = ("cat", "dog", "horse")


def confidences_of(logits, **options):
    return Decider("abc", **options).confidences(np.array([logits], np.float32), 1.0)[0]


def decide(*logits, **options):
    """Return the label, its confidence and the most likely labels."""
    confidences = confidences_of(logits, **options)
    return Decider("abc", **options).decide(confidences, int(confidences.argmax()), Rejection())[:3]


def names(top):
    return [label for label, _ in top]


def test_softmax_sums_to_one_for_numbers_of_any_size():
    assert np.allclose(softmax([0.0, np.log(3)]), [0.25, 0.75])
    assert np.array_equal(softmax(np.array([[1e30, -1e30]], np.float32)), [[1, 0]])


def test_the_labels_come_best_first():
    label, confidence, top = decide(0, np.log(6), np.log(3))
    assert (label, round(confidence, 3), names(top)) == ("b", 0.6, ["b", "c", "a"])


def test_equal_confidences_come_in_the_order_of_the_labels():
    assert names(decide(1, 1, 1)[2]) == ["a", "b", "c"]


def test_the_requested_number_of_labels_is_listed_if_there_are_as_many():
    assert names(decide(0, 2, 1, top_k=2)[2]) == ["b", "c"]
    assert names(decide(0, 2, 1, top_k=99)[2]) == ["b", "c", "a"]


@pytest.mark.parametrize("name", ["unknown", "Unknown", "UNKNOWN"])
def test_a_label_named_unknown_differs_from_a_rejected_one(name):
    decider = Decider(["cat", name])
    kept = decider.decide(np.array([0.4, 0.6]), 1, Rejection(0.6))
    rejected = decider.decide(np.array([0.4, 0.6]), 1, Rejection(0.7))
    assert (kept.label, kept.rejected, kept.candidate) == (name, False, name)
    assert (rejected.label, rejected.rejected, rejected.candidate) == ("unknown", True, name)


def test_the_candidate_is_the_label_that_was_chosen_and_not_the_most_likely():
    decision = Decider(LABELS).decide(np.array([0.45, 0.5, 0.05]), 0, Rejection(0.6))
    assert (decision.candidate, decision.confidence, decision.top[0][0]) == ("cat", 0.45, "dog")


def test_labels_that_are_not_allowed_are_never_returned_and_the_rest_sums_to_one():
    for choice in ({"deny": ["b"]}, {"allow": ["a", "c"]}, {"allow": ("a", "b", "c"), "deny": "b"}):
        assert confidences_of([0, 9, np.log(3)], **choice) == pytest.approx([0.25, 0, 0.75])
        top = decide(0, 9, np.log(3), **choice)[2]
        assert names(top) == ["c", "a"]
        assert [round(confidence, 6) for _, confidence in top] == [0.75, 0.25]


def test_even_a_nearly_impossible_label_can_be_the_only_one_allowed():
    assert decide(0, 5000, -5000, allow=["c"]) == ("c", 1.0, [("c", 1.0)])


@pytest.mark.parametrize("choice", ["allow", "deny"])
def test_the_error_for_an_unknown_label_lists_the_nearest_ones(choice):
    with pytest.raises(OptionError, match="there is no label 'hors'; the nearest are: horse"):
        Decider(LABELS, **{choice: ["hors"]})
    with pytest.raises(OptionError, match="there is no label 'zebra 1'; the labels are: cat, dog, horse"):
        Decider(LABELS, **{choice: "zebra 1"})


def test_allow_and_deny_must_leave_a_label():
    for choice in ({"deny": LABELS}, {"allow": []}, {"allow": ["cat"], "deny": ["cat"]}):
        with pytest.raises(OptionError, match="leave no label to return; the labels are: cat, dog, horse"):
            Decider(LABELS, **choice)


COMPARISONS: collections.Counter = collections.Counter()


class CountedName(str):
    """A name that counts how often names of its kind are compared."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        COMPARISONS["names"] += 1
        return str.__eq__(self, other)


@pytest.mark.parametrize("choice", ["allow", "deny"])
def test_twenty_thousand_labels_are_not_each_compared_with_all_others(choice):
    labels = [CountedName(f"label {number}") for number in range(21_841)]
    chosen = [CountedName(f"label {number}") for number in range(0, 21_841, 2)]
    COMPARISONS.clear()
    places = allowed_indices(labels, **{choice: chosen})
    assert places == list(range(choice == "deny", 21_841, 2))
    # A few for each label: a list would need 100 million.
    assert COMPARISONS["names"] < 10 * len(labels)
