import numpy as np
import pytest

from edgeclf.errors import ModelError, OptionError
from edgeclf.evaluation.rejection.label_sets import fit_label_sets
from edgeclf_runtime.classify.decision import softmax
from edgeclf_runtime.classify.label_sets import label_sets


def draw(random, images):
    """Return confidences of a model that is too sure, and the labels."""
    logits = random.normal(0, 2, (images, 5))
    truth = (logits + random.gumbel(size=logits.shape)).argmax(1)
    return softmax(3 * logits), truth


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_right_label_as_often_as_promised_although_confidences_are_wrong(coverage):
    random = np.random.default_rng(0)
    covered = []
    for _ in range(100):
        threshold = fit_label_sets(*draw(random, 200), coverage).threshold
        confidences, truth = draw(random, 500)
        covered.append(label_sets(confidences, threshold)[np.arange(500), truth].mean())
    assert np.mean(covered) == pytest.approx(coverage, abs=0.01)


def test_a_higher_coverage_needs_larger_sets():
    confidences, truth = draw(np.random.default_rng(0), 500)
    sizes = [fit_label_sets(confidences, truth, coverage).mean_size for coverage in (0.5, 0.8, 0.9, 0.99)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_images_without_a_likely_label_have_an_empty_set_and_are_counted():
    confidences = np.array([[0.9, 0.1]] * 90 + [[0.55, 0.45]] * 10)
    found = fit_label_sets(confidences, np.zeros(100, int), 0.5)
    assert found.empty == 0.1


def test_a_coverage_that_the_images_cannot_promise_is_refused():
    confidences, truth = draw(np.random.default_rng(0), 40)
    with pytest.raises(OptionError, match=r"a coverage of 0\.99 need 99 validation images, and there are 40"):
        fit_label_sets(confidences, truth, 0.99)
    # As many as are needed are enough.
    assert fit_label_sets(*draw(np.random.default_rng(0), 99), 0.99).images == 99


@pytest.mark.parametrize("coverage", [0, 1, -1])
def test_a_coverage_that_is_not_between_0_and_1_is_refused(coverage):
    with pytest.raises(OptionError, match="more than 0 and less than 1 was expected"):
        fit_label_sets(np.zeros((1, 2)), np.zeros(1, int), coverage)


def test_confidences_that_are_not_finite_are_refused():
    with pytest.raises(ModelError, match="not finite"):
        fit_label_sets(np.full((20, 2), np.nan), np.zeros(20, int), 0.9)
