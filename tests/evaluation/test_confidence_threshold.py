import numpy as np
import pytest

from edgeclf.errors import GateError, OptionError
from edgeclf.evaluation.confidence_threshold import (
    fit_confidence,
    fit_temperature,
    threshold_for_coverage,
    threshold_for_precision,
)
from edgeclf.training.results.metrics import expected_calibration_error
from edgeclf_runtime.classify.decision import softmax


@pytest.fixture(scope="module")
def honest():
    """Logits, and labels drawn with the probabilities of their softmax."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20000, 3))
    truth = np.array([random.choice(3, p=row) for row in softmax(logits)])
    return logits, truth


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_takes_back_what_made_a_model_too_sure_or_too_shy(honest, factor):
    logits, truth = honest
    assert fit_temperature(logits * factor, truth) == pytest.approx(factor, rel=0.05)


def test_the_calibration_error_is_small_for_an_honest_model_and_falls_by_the_temperature(honest):
    logits, truth = honest
    assert expected_calibration_error(softmax(logits), truth) < 0.02
    found = fit_confidence(logits * 3, truth)
    assert found.ece_before > 0.1
    assert found.ece_after < 0.02


def test_the_calibration_error_of_a_model_that_is_sure_and_half_right_is_a_half():
    confidences = np.array([[1.0, 0.0]] * 10)
    assert expected_calibration_error(confidences, np.array([0, 1] * 5)) == pytest.approx(0.5)


def test_a_threshold_reaches_the_wanted_precision_with_the_most_labels():
    confident = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, False, True, False])
    assert threshold_for_precision(confident, right, 1.0) == pytest.approx(0.8, abs=1e-5)
    assert threshold_for_precision(confident, right, 0.75) == pytest.approx(0.6, abs=1e-5)
    assert threshold_for_precision(confident, right, 0.6) == pytest.approx(0.5, abs=1e-5)


def test_images_of_one_confidence_are_labeled_together_or_not_at_all():
    with pytest.raises(GateError, match=r"no threshold reaches a precision of 0\.9; the best on .* is 0\.500"):
        threshold_for_precision(np.array([0.9, 0.9]), np.array([True, False]), 0.9)


def test_a_threshold_reaches_the_wanted_coverage():
    confident = np.arange(1, 11) / 10
    for coverage in (0.1, 0.5, 0.75, 1.0):
        threshold = threshold_for_coverage(confident, coverage)
        assert (confident >= threshold).mean() == pytest.approx(np.ceil(coverage * 10) / 10)


def test_what_was_wanted_is_what_the_images_show(honest):
    logits, truth = honest
    assert fit_confidence(logits, truth, precision=0.95).precision >= 0.95
    assert fit_confidence(logits, truth, coverage=0.5).coverage == pytest.approx(0.5, abs=0.001)
    nothing = fit_confidence(logits, truth)
    assert (nothing.threshold, nothing.coverage) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"precision": 0.9, "coverage": 0.9}, "give one of them"),
        ({"precision": 1.5}, "at most 1 was expected"),
        ({"coverage": 0}, "more than 0"),
    ],
)
def test_what_cannot_be_wanted_is_refused(wanted, message):
    with pytest.raises(OptionError, match=message):
        fit_confidence(np.eye(2), np.array([0, 1]), **wanted)
