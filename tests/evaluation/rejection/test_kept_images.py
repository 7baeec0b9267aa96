"""What thresholds reject of labeled images, counted by hand."""

import numpy as np
import pytest

from edgeclf.evaluation.rejection.answers import Answers
from edgeclf.evaluation.rejection.kept_images import measure_kept, measure_sets
from edgeclf.training.results.metrics import wilson_interval
from edgeclf_runtime.classify.rejection import CONFIDENCE, DISTANCE, Rejection

LABELS = ("cat", "dog", "emu")
PROBABILITIES = [(0.9, 0.1, 0), (0.6, 0.4, 0), (0.2, 0.8, 0), (0.1, 0.45, 0.45), (0.9, 0.05, 0.05), (0, 0, 1)]
TRUTH = np.array([0, 1, 1, 2, 1, 2])


def answers(distances=None, **rules):
    """The answers of a model that gives PROBABILITIES."""
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(PROBABILITIES), -50).astype(np.float32)
    return Answers(logits, None if distances is None else np.array(distances, np.float32), 1.0, Rejection(**rules))


def test_coverage_accuracy_and_reasons_are_those_of_the_images_that_are_kept():
    found = measure_kept(answers([0, 0, 0, 9, 0, 9], threshold=0.7, most_distance=5), TRUTH, LABELS)
    assert found.coverage.share == 3 / 6
    assert found.coverage.interval == wilson_interval(3, 6)
    assert (found.accuracy.share, found.accuracy.images) == (2 / 3, 3)
    assert found.rejected == {CONFIDENCE: 1, DISTANCE: 2}
    assert found.precision == {}


def test_a_label_with_its_own_threshold_has_the_precision_of_the_images_that_keep_it():
    found = measure_kept(answers(by_label={0: 0.7, 2: 0.5, 1: 0.99}), TRUTH, LABELS)
    assert (found.precision["cat"].share, found.precision["cat"].images) == (0.5, 2)
    assert (found.precision["emu"].share, found.precision["emu"].images) == (1, 1)
    assert found.precision["dog"] is None


def test_a_model_that_rejects_everything_has_no_accuracy():
    found = measure_kept(answers([9] * 6, most_distance=1), TRUTH, LABELS)
    assert (found.coverage.share, found.accuracy) == (0, None)


@pytest.mark.parametrize("given", [answers(), answers([0, 1, 2, 3, 4, 5])])
def test_nothing_is_said_of_a_model_that_rejects_nothing_and_gives_no_sets(given):
    assert measure_kept(given, TRUTH, LABELS) is None
    assert measure_sets(given, TRUTH) is None


def test_label_sets_are_counted_with_their_size():
    found = measure_sets(answers(in_set=0.41), TRUTH)
    assert (found.right.share, found.mean_size) == (4 / 6, pytest.approx(7 / 6))
    found = measure_sets(answers(in_set=0.7), TRUTH)
    assert (found.empty.share, found.empty.images) == (2 / 6, 6)


def test_nothing_is_said_if_a_logit_is_not_finite():
    given = answers(threshold=0.5, in_set=0.5)
    given.logits[0, 0] = np.nan
    assert (measure_kept(given, TRUTH, LABELS), measure_sets(given, TRUTH)) == (None, None)
