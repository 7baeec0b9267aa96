"""Folds, and labels predicted from the images of other folds."""

import numpy as np
import pytest

from edgeclf.evaluation.audit.label_model import folds_of, out_of_sample, reduced
from edgeclf.evaluation.audit.similar import joined


def clusters(labels, seed=0, apart=4.0):
    """Features of one cluster for each label."""
    random = np.random.default_rng(seed)
    centers = random.normal(0, apart, (int(max(labels)) + 1, 16))
    return (centers[labels] + random.normal(0, 1, (len(labels), 16))).astype(np.float32)


def digests(count):
    return [f"{number:064x}" for number in range(count)]


def test_images_of_a_group_share_a_fold():
    random = np.random.default_rng(0)
    groups = random.integers(0, 40, 300).tolist()
    folds = folds_of(groups, random.integers(0, 3, 300).tolist(), [True] * 300, digests(300), 5, 0)
    for group in set(groups):
        assert len({fold for fold, own in zip(folds, groups, strict=True) if own == group}) == 1
    assert set(folds.tolist()) == {0, 1, 2, 3, 4}


def test_every_fold_has_its_part_of_each_label():
    labels = [0] * 50 + [1] * 10
    folds = folds_of(list(range(60)), labels, [True] * 60, digests(60), 5, 0)
    counts = [np.bincount(np.array(labels)[folds == fold], minlength=2).tolist() for fold in range(5)]
    assert counts == [[10, 2]] * 5


def test_the_seed_decides_the_folds_and_the_order_of_the_images_does_not():
    groups, labels, known, names = list(range(30)), [0, 1] * 15, [True] * 30, digests(30)
    first = folds_of(groups, labels, known, names, 5, 0)
    assert (first == folds_of(groups, labels, known, names, 5, 0)).all()
    assert (first != folds_of(groups, labels, known, names, 5, 1)).any()
    assert (first[::-1] == folds_of(groups, labels[::-1], known, names[::-1], 5, 0)).all()


def test_labels_that_are_not_known_decide_no_fold():
    known = [number % 4 != 0 for number in range(40)]
    labels = [number % 2 for number in range(40)]
    others = [label if is_known else 1 - label for label, is_known in zip(labels, known, strict=True)]
    groups, names = [number // 2 for number in range(40)], digests(40)
    assert (folds_of(groups, labels, known, names, 5, 0) == folds_of(groups, others, known, names, 5, 0)).all()


def test_near_duplicates_and_groups_are_joined_in_chains():
    numbers = joined(7, [[0, 1], [2, 3]], ["", "cell", "cell", "", "", "x", "x"])
    assert numbers[0] == numbers[1] == numbers[2] == numbers[3]
    assert numbers[5] == numbers[6]
    assert len(set(numbers)) == 3


@pytest.mark.parametrize("classes", [2, 6])
def test_a_changed_label_gets_a_small_probability(classes):
    labels = np.arange(120) % classes
    features = clusters(labels)
    given = labels.copy()
    changed = np.arange(0, 120, 17)
    given[changed] = (labels[changed] + 1) % classes
    known = np.ones(120, bool)
    folds = folds_of(list(range(120)), given.tolist(), known.tolist(), digests(120), 5, 0)
    found, judged = out_of_sample(reduced(features, np.arange(120)), given, folds, known, classes)
    assert judged.all()
    assert found.sum(1) == pytest.approx(1, abs=1e-4)
    assert (found.argmax(1) == labels).mean() > 0.95
    own = found[np.arange(120), given]
    assert own[changed].max() < np.delete(own, changed).min()


def test_a_label_that_only_its_own_fold_has_is_not_judged():
    labels = np.array([0] * 40 + [1] * 40 + [2])
    folds = folds_of(list(range(81)), labels.tolist(), [True] * 81, digests(81), 5, 0)
    values = reduced(clusters(labels), np.arange(81))
    found, judged = out_of_sample(values, labels, folds, np.ones(81, bool), 3)
    assert judged.tolist() == [True] * 80 + [False]
    assert np.isfinite(found).all()


def test_images_of_the_test_split_teach_nothing():
    labels = np.arange(100) % 2
    known = np.arange(100) < 70
    values = reduced(clusters(labels), np.flatnonzero(known))
    folds = np.arange(100) // 2 % 5
    before, _ = out_of_sample(values, labels, folds, known, 2)
    others = np.where(known, labels, 1 - labels)
    after, _ = out_of_sample(values, others, folds, known, 2)
    assert (before == after).all()
    assert (before.argmax(1) == labels)[~known].mean() > 0.9


def test_a_few_images_and_a_constant_feature_are_no_problem():
    features = clusters(np.arange(6) % 2)
    features[:, 3] = 7
    values = reduced(features, np.arange(6))
    assert np.isfinite(values).all()
    assert values.shape == (6, 5)
    assert np.isfinite(reduced(np.ones((5, 4), np.float32), np.arange(5))).all()
