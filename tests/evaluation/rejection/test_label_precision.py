import numpy as np
import pytest

from edgeclf.errors import GateError, OptionError
from edgeclf.evaluation.rejection.label_precision import fit_label_precision

LABELS = ("defective", "functional")
# Of four images that are called defective, the second surest is not; of the others nothing matters.
CONFIDENCES = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
TRUTH = np.array([0, 1, 0, 0, 0])


def test_a_label_gets_the_lowest_threshold_that_reaches_its_precision():
    found = fit_label_precision(CONFIDENCES, TRUTH, LABELS, {"defective": 0.7})["defective"]
    assert found.threshold == pytest.approx(0.6, abs=1e-5)
    assert (found.precision, found.images, found.kept) == (0.75, 4, 4)
    assert found.interval[0] < 0.75 < found.interval[1]


def test_a_higher_precision_keeps_fewer_images():
    found = fit_label_precision(CONFIDENCES, TRUTH, LABELS, {"defective": 0.99})["defective"]
    assert (round(found.threshold, 4), found.precision, found.kept) == (0.9, 1.0, 1)


def test_labels_that_are_not_named_have_no_threshold():
    assert list(fit_label_precision(CONFIDENCES, TRUTH, LABELS, {"defective": 0.7})) == ["defective"]


def test_a_precision_that_cannot_be_reached_is_refused_with_its_label():
    with pytest.raises(
        GateError, match=r"label 'functional': no threshold reaches a precision of 0\.9; the best on 1 "
    ):
        fit_label_precision(CONFIDENCES, TRUTH, LABELS, {"functional": 0.9})


def test_an_unknown_label_is_refused_with_the_nearest_name():
    with pytest.raises(OptionError, match="there is no label 'defectiv'; the nearest are: defective"):
        fit_label_precision(CONFIDENCES, TRUTH, LABELS, {"defectiv": 0.9})


def test_a_label_that_no_image_gets_is_refused():
    with pytest.raises(OptionError, match="no validation image gets the label 'functional'"):
        fit_label_precision(CONFIDENCES[:4], TRUTH[:4], LABELS, {"functional": 0.9})


def test_a_precision_above_1_is_refused():
    with pytest.raises(OptionError, match="precision is 99"):
        fit_label_precision(CONFIDENCES, TRUTH, LABELS, {"defective": 99})
