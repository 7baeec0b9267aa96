import itertools

import numpy as np
import pytest

from edgeclf.errors import GateError
from edgeclf.evaluation.accuracy_gate import check_gate, evaluation_warning, gate_failure, gate_warning, gate_warnings
from edgeclf.evaluation.comparison import _drop_by_label, compare, paired_interval
from edgeclf_runtime.classify.golden import divergence

LABELS = ("cat", "dog", "fox")


def logits(places, sure=4.0):
    """One row an image, the label at ``places`` the likeliest."""
    return np.eye(3, dtype=np.float32)[places] * np.float32(sure)


TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 0])


def test_drop_and_agreement_count_images_in_pairs():
    worse = np.array([1, 1, 0, 0, 1, 1, 1, 1, 0, 0])
    found = compare(LABELS, TRUTH, logits(TRUTH), logits(worse))
    assert (found.accuracy_fp32, found.accuracy, found.drop, found.agreement) == (1, 0.8, 0.2, 0.8)
    assert found.drop_by_label == {"cat": pytest.approx(1 / 3), "dog": 0}  # no fox was seen
    assert found.p_value == 0.5  # McNemar, 2 against 0


def test_files_that_err_on_other_images_drop_nothing_but_agree_less():
    fp32, other = TRUTH.copy(), TRUTH.copy()
    fp32[0] = other[1] = 2
    found = compare(LABELS, TRUTH, logits(fp32), logits(other))
    assert (found.drop, found.agreement, found.p_value) == (0, 0.8, 1)


def test_confidence_shift_is_signed():
    found = compare(LABELS, TRUTH, logits(TRUTH, 4), logits(TRUTH, 3))
    expected = 1 / (1 + 2 * np.exp(-3)) - 1 / (1 + 2 * np.exp(-4))
    assert found.confidence_shift == pytest.approx(expected, abs=1e-6)
    assert found.confidence_change_p95 == pytest.approx(-expected, abs=1e-6)


def test_divergence_is_0_for_the_same_probabilities_and_grows_with_the_difference():
    assert divergence(logits(TRUTH), logits(TRUTH) + 7) == pytest.approx(0, abs=1e-12)
    wanted, told = np.array([[0.75, 0.25]]), np.array([[0.5, 0.5]])
    expected = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert divergence(np.log(wanted), np.log(told)) == pytest.approx(expected)
    assert divergence(logits(TRUTH), logits(TRUTH, 3)) < divergence(logits(TRUTH), logits(TRUTH, 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_divergence_is_a_number_whatever_the_logits_are(bad):
    found = logits(TRUTH)
    found[3, 1] = bad
    assert 0 < divergence(logits(TRUTH), found) < 28


def test_the_interval_is_that_of_the_published_example():
    # Agresti and Min 2005: 132 and 107 of 1600 who changed their mind between two surveys of the same people.
    low, high = paired_interval(132, 107, 1600)
    assert (round(low, 3), round(high, 3)) == (-0.003, 0.035)


def test_no_differing_image_still_leaves_doubt():
    low, high = paired_interval(0, 0, 100)
    assert low == -high
    assert 0.01 < high < 0.03


def test_the_interval_covers_a_true_drop_of_one_point_about_95_times_in_100():
    random = np.random.RandomState(0)
    draws = random.multinomial(500, [0.02, 0.01, 0.97], 2000)
    inside = [low <= 0.01 <= high for low, high in (paired_interval(lost, won, 500) for lost, won, _ in draws)]
    assert 0.93 < np.mean(inside) < 0.98


def test_a_larger_drop_than_accepted_is_a_gate_error_with_its_interval():
    bad = logits(np.array([1, 1, 0, 0, 1, 1, 1, 1, 0, 0]))
    found = compare(LABELS, TRUTH, logits(TRUTH), bad)
    check_gate("int8", found, bad, 0.2)
    with pytest.raises(GateError, match=r"int8 has .* 0\.8000 on 10 images and fp32 1\.0000: a drop of 0\.2000 \(95 %"):
        check_gate("int8", found, bad, 0.1)


def test_a_drop_that_chance_may_explain_is_refused_too_and_says_so():
    truth = np.zeros(500, int)
    for lost, settled in ((6, False), (40, True)):
        worse = logits((np.arange(500) < lost).astype(int))
        reason = gate_failure("int8", compare(LABELS, truth, logits(truth), worse), worse, 0.01)
        assert f"a drop of {lost / 500:.4f}" in reason
        assert ("0.01 is within the interval, so more validation images may settle it" in reason) != settled


@pytest.mark.parametrize("max_drop", [0.0, 0.01, 0.05])
def test_a_significant_loss_that_the_limit_accepts_never_reaches_far_beyond_it(max_drop):
    """So the interval has nothing to refuse where the drop passes, only few images to warn of."""
    truth = np.zeros(300, int)
    for lost, won in itertools.product(range(25), range(0, 25, 4)):
        low, high = paired_interval(lost, won, len(truth))
        if low > 0 and (lost - won) / len(truth) <= max_drop:
            assert high <= max_drop + max(max_drop, 0.01)


def test_non_finite_logits_never_pass():
    broken = logits(TRUTH)
    broken[3, 1] = np.nan
    with pytest.raises(GateError, match="fp16 produced non-finite logits for 1 of 10 images"):
        check_gate("fp16", compare(LABELS, TRUTH, logits(TRUTH), logits(TRUTH)), broken, 1)


@pytest.mark.parametrize(
    ("images", "lost", "max_drop", "doubtful"),
    [
        (40, 0, 0.01, True),  # no image differs, and still few images
        (500, 0, 0.01, False),
        (500, 4, 0.01, False),
        (200, 2, 0.01, True),
        (200, 2, 0.2, False),
        (2000, 0, 0.0, False),
    ],
)
def test_a_pass_by_few_images_is_doubtful(images, lost, max_drop, doubtful):
    truth = np.zeros(images, int)
    found = compare(LABELS, truth, logits(truth), logits((np.arange(images) < lost).astype(int)))
    check_gate("int8", found, logits(truth), max_drop)
    warning = gate_warning("int8", found, images, max_drop)
    assert bool(warning) == doubtful
    assert not warning or f"on {images} images the 95 % interval reaches {found.drop_interval[1]:+.4f}" in warning


def test_files_with_the_same_drop_share_a_warning():
    truth = np.zeros(40, int)
    same = compare(LABELS, truth, logits(truth), logits(truth))
    better = compare(LABELS, truth, logits((np.arange(40) < 1).astype(int)), logits(truth))
    warnings = gate_warnings({"int8-cpu": same, "int8-arm": better, "fp16": same}, 40, 0.01)
    assert [warning.partition(": a drop of ")[0] for warning in warnings] == ["int8-cpu, fp16", "int8-arm"]
    assert gate_warnings({"fp16": same}, 40, 0.2) == []


@pytest.mark.parametrize(
    ("images", "trained", "message"),
    [
        (99, 0, "only 99 images"),
        (500, 251, "251 of the 500 evaluation images were trained on"),
        (500, 250, ""),
        (100, 0, ""),
    ],
)
def test_few_evaluation_images_or_trained_ones_are_doubtful(images, trained, message):
    assert message in evaluation_warning(images, trained)
    assert bool(message) == bool(evaluation_warning(images, trained))


def test_the_drop_of_each_label_is_counted_in_one_pass_over_the_images():
    labels = [str(number) for number in range(21_841)]
    truth = np.array([5, 21_840, 5, 7])
    # Only as many logits as are looked at: the labels themselves are what there are many of.
    right_fp32, right = np.array([True, True, True, False]), np.array([True, False, False, False])
    assert _drop_by_label(labels, truth, right_fp32, right) == {"5": 0.5, "7": 0.0, "21840": 1.0}
