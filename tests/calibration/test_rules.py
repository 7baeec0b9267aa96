import numpy as np
import pytest

from edgeclf.calibration.rules import RULES

DIGESTS = [f"{number:064x}" for number in range(40)]
LABELS = ["many"] * 30 + ["few"] * 10
# Four clusters on a line, the last with a single image in it.
FEATURES = np.array([[0.0]] * 20 + [[10.0]] * 10 + [[20.0]] * 9 + [[100.0]])
LOGITS = np.stack([np.linspace(0, 39, 40), np.zeros(40)], 1)


def choose(rule, size, seed=0):
    vectors = LOGITS if rule == "uncertain" else FEATURES
    return RULES[rule](DIGESTS, LABELS, size, seed, vectors)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [1, 7, 40])
def test_each_rule_gives_as_many_images_as_asked_and_none_twice(rule, size):
    assert len(set(choose(rule, size))) == size


@pytest.mark.parametrize("rule", ["random", "stratified"])
def test_the_seed_decides_and_the_order_of_the_files_does_not(rule):
    chosen = {DIGESTS[place] for place in choose(rule, 10)}
    assert chosen != {DIGESTS[place] for place in choose(rule, 10, seed=1)}
    turned = RULES[rule](DIGESTS[::-1], LABELS[::-1], 10, 0, FEATURES)
    assert chosen == {DIGESTS[::-1][place] for place in turned}


def test_a_stratified_choice_has_each_label_by_its_share():
    assert [LABELS[place] for place in choose("stratified", 8)].count("few") == 2


def test_a_diverse_choice_has_one_of_each_cluster_first():
    assert sorted(FEATURES[choose("diverse", 4), 0]) == [0.0, 10.0, 20.0, 100.0]


def test_an_uncertain_choice_has_the_images_whose_best_labels_are_nearest():
    assert sorted(choose("uncertain", 5)) == [0, 1, 2, 3, 4]
