"""Figures of merit, checked against scikit-learn and against values worked out by hand."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics as reference

from edgeclf.data.datasets import Sample
from edgeclf.evaluation.evaluate import measure
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf.training.results.metrics import (
    BINS,
    expected_calibration_error,
    group_accuracies,
    measure_metrics,
    reliability_bins,
    wilson_interval,
)
from edgeclf_runtime.classify.decision import softmax
from edgeclf_runtime.images.preprocess import Preprocessing


def some_logits(labels, images=400, seed=0, strength=1.5):
    """Logits that are often right, and the truth."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, labels, images)
    logits = random.normal(0, 1, (images, labels)).astype(np.float32)
    logits[np.arange(images), truth] += strength
    return logits, truth


def evaluated(logits, truth, labels=None, groups=None, temperature=1.0):
    names = labels or [f"label{number}" for number in range(logits.shape[1])]
    groups = groups or [""] * len(truth)
    samples = [
        Sample(f"{number}.png", names[index], "test", group)
        for number, (index, group) in enumerate(zip(truth, groups, strict=True))
    ]
    images = EvaluationSet(samples, tuple(names), Preprocessing(8, 8))
    return measure("model", "known", "test", images, logits, temperature)


@pytest.mark.parametrize(
    ("hits", "images", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17, table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_that_of_the_published_examples(hits, images, low, high):
    assert wilson_interval(hits, images) == pytest.approx((low, high), abs=5e-5)


def test_wilsons_interval_ends_at_0_and_1_exactly():
    assert wilson_interval(0, 7)[0] == 0
    assert wilson_interval(7, 7)[1] == 1


def test_wilsons_interval_covers_the_true_share_about_95_times_in_100():
    for share, images in ((0.95, 45), (0.7, 30), (0.99, 400)):
        hits = np.random.default_rng(0).binomial(images, share, 4000)
        inside = [low <= share <= high for low, high in (wilson_interval(int(h), images) for h in hits)]
        assert 0.92 < np.mean(inside) < 0.99


@pytest.mark.parametrize("labels", [2, 3, 12])
def test_the_figures_are_those_of_scikit_learn(labels):
    logits, truth = some_logits(labels)
    found, predicted = measure_metrics(logits, truth), logits.argmax(1)
    probabilities = softmax(logits.astype(np.float64))
    one_hot = np.eye(labels)[truth]
    assert found.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    assert found.macro_precision == pytest.approx(reference.precision_score(truth, predicted, average="macro"))
    assert found.macro_f1 == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert found.negative_log_likelihood == pytest.approx(reference.log_loss(truth, probabilities))
    assert found.brier_score == pytest.approx(((probabilities - one_hot) ** 2).sum(1).mean())
    assert found.average_precision == pytest.approx(reference.average_precision_score(one_hot, probabilities))
    if labels == 2:
        assert found.roc_auc == pytest.approx(reference.roc_auc_score(truth, probabilities[:, 1]))
        assert found.brier_score == pytest.approx(2 * reference.brier_score_loss(truth, probabilities[:, 1]))
    else:
        assert found.roc_auc == pytest.approx(reference.roc_auc_score(truth, probabilities, multi_class="ovr"))


@pytest.mark.parametrize(("labels", "k"), [(2, None), (5, None), (6, 5), (40, 5)])
def test_top_k_is_reported_where_there_are_more_than_five_labels(labels, k):
    logits, truth = some_logits(labels)
    found = measure_metrics(logits, truth)
    assert found.top_k == k
    if k is None:
        assert found.top_k_accuracy is None
    else:
        assert found.top_k_accuracy == pytest.approx(reference.top_k_accuracy_score(truth, logits, k=k))


def test_the_calibration_error_is_that_of_a_hand_calculation():
    # Two images with confidence 0.9, one right; two with 0.6, both right: (2 * 0.4 + 2 * 0.4) / 4.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    truth = np.array([0, 1, 1, 1])
    assert expected_calibration_error(probabilities, truth) == pytest.approx(0.4)
    bins = reliability_bins(probabilities, truth)
    assert len(bins) == BINS
    assert [(found.images, found.confidence, found.accuracy) for found in bins if found.images] == [
        (2, pytest.approx(0.6), 1.0),
        (2, pytest.approx(0.9), 0.5),
    ]
    assert bins[0].confidence is None


def test_the_temperature_changes_the_calibration_but_not_the_accuracy():
    random = np.random.default_rng(0)
    honest = random.normal(0, 2, (5000, 3))
    truth = np.array([random.choice(3, p=row) for row in softmax(honest)])
    found = measure_metrics(3 * honest, truth, temperature=3.0)
    assert found.calibration_error < 0.02 < 0.1 < found.raw_calibration_error
    raw = measure_metrics(3 * honest, truth)
    assert raw.calibration_error == raw.raw_calibration_error == found.raw_calibration_error
    assert raw.accuracy == found.accuracy
    assert raw.negative_log_likelihood > found.negative_log_likelihood


def test_certain_models_keep_their_ranking():
    # As float32 probabilities, all of these are 1.
    logits = np.array([[60, 0], [50, 0], [40, 0], [30, 0]], np.float32)
    assert measure_metrics(logits, np.array([0, 0, 1, 1])).roc_auc == 1


def test_what_one_label_cannot_say_is_none():
    found = measure_metrics(np.array([[1, 0, 0], [2, 0, 1]], np.float32), np.array([0, 0]))
    assert (found.roc_auc, found.average_precision) == (None, None)
    assert (found.balanced_accuracy, found.baseline_accuracy) == (1, 1)
    assert found.recall_intervals[1:] == (None, None)


def numbers(value):
    """All numbers in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [value] if isinstance(value, (int, float)) else []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_json_holds_only_finite_numbers(bad):
    logits, truth = some_logits(3)
    logits[4, 1] = bad
    found = json.loads(evaluated(logits, truth).to_json())
    assert found["metrics"]["brier_score"] is None
    assert all(map(math.isfinite, numbers(found)))


def test_the_baseline_is_the_most_frequent_label():
    logits, _ = some_logits(3, 10)
    assert measure_metrics(logits, np.array([0] * 2 + [1] * 7 + [2])).baseline_accuracy == 0.7


def test_groups_are_listed_with_the_least_accurate_first():
    right = np.array([True, True, True, False, False, True])
    found = group_accuracies(right, ["a", "a", "b", "b", "c", ""])
    assert [(name, row["images"], row["accuracy"]) for name, row in found.items()] == [
        ("c", 1, 0),
        ("b", 2, 0.5),
        ("a", 2, 1),
    ]
    assert found["b"]["interval"] == wilson_interval(1, 2)


def test_the_groups_of_the_images_are_in_text_and_json():
    logits, truth = some_logits(3, 60)
    found = evaluated(logits, truth, groups=["north", "south", ""] * 20)
    assert sum(row["images"] for row in found.groups.values()) == 40
    lines = [line.split() for line in str(found).splitlines()]
    assert {line[0] for line in lines if line} >= {"group", "north", "south"}
    assert set(json.loads(found.to_json())["groups"]) == {"north", "south"}


@pytest.mark.parametrize("labels", [2, 8, 400])
def test_the_text_fits_a_terminal_and_a_page(labels):
    logits, truth = some_logits(labels, 900, strength=2)
    names = [f"label {number} of a long, long name" for number in range(labels)]
    text = str(evaluated(logits, truth, names, groups=[f"camera {number % 30}" for number in range(900)]))
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) < 80
    assert "95 % interval" in text


def test_a_label_without_images_has_no_recall_in_the_text():
    logits, truth = some_logits(3, 30)
    text = str(evaluated(logits, np.minimum(truth, 1)))
    assert ["-", "-", "0", "-"] in [line.split()[2:] for line in text.splitlines()]


def test_of_many_labels_the_worst_are_listed_and_those_without_images_named():
    logits, truth = some_logits(50, 400, strength=3)
    truth = np.minimum(truth, 48)
    found = evaluated(logits, truth)
    lines = str(found).splitlines()
    assert lines[0] == "the 10 of 50 labels with the lowest F1 (--json has all):"
    worst = min((row["f1"], label) for label, row in found.per_label.items() if row["images"])[1]
    assert lines[2].startswith(worst)
    assert "1 label without images: label49" in lines


def test_the_notebook_shows_the_figures_too():
    logits, truth = some_logits(3, 60)
    html = evaluated(logits, truth)._repr_html_()
    assert "Brier score" in html
    assert "95 % interval of the recall" in html
