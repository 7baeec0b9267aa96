import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from edgeclf.errors import ModelError
from edgeclf.evaluation.rejection.known_images import (
    MOST_POINTS,
    POINTS_PER_LABEL,
    fit_known_images,
    known_images_bytes,
    write_known_images,
)
from edgeclf_runtime.classify.known_images import MOST_BYTES, read_known_images

HELD_OUT = 9


class Digits:
    """Scanned digits 0 to 8 as known images, their pixels as features, and the digit 9 as the unknown kind."""

    def __init__(self):
        features, labels = load_digits(return_X_y=True)
        features = features.astype(np.float32)
        known = labels != HELD_OUT
        self.nines = features[~known]
        features, labels = features[known], labels[known]
        self.train, self.train_labels = features[:1000], labels[:1000]
        self.val, self.test = features[1000:1300], features[1300:]
        self._model = LogisticRegression(max_iter=200).fit(self.train / 16, self.train_labels)

    def logits(self, features):
        return self._model.decision_function(features / 16).astype(np.float32)

    def fit(self, images=slice(None)):
        return fit_known_images(self.train[images], self.train_labels[images], self.val, self.logits(self.val))

    def distance(self, known, features):
        return known.distance(features, self.logits(features))


@pytest.fixture(scope="module")
def digits():
    return Digits()


@pytest.fixture(scope="module")
def known(digits):
    return digits.fit()


def test_a_digit_of_no_known_kind_is_farther_than_known_digits(digits, known):
    found = digits.distance(known, digits.test)[:, None] < digits.distance(known, digits.nines)
    assert found.mean() > 0.85


def test_what_is_no_digit_is_farther_than_every_known_digit(digits, known):
    noise = np.random.default_rng(0).uniform(0, 16, (100, 64)).astype(np.float32)
    assert digits.distance(known, noise).min() > digits.distance(known, digits.test).max()


def test_the_distance_of_validation_images_has_mean_0(digits, known):
    # The part by the logits is limited, so it is not exactly 0.
    assert abs(digits.distance(known, digits.val).mean()) < 0.1


def test_the_nearest_training_images_have_the_digit_that_is_seen(digits, known):
    seen = digits.logits(digits.test).argmax(1)
    nearest = [images[0] for images in known.nearest(digits.test)]
    assert np.mean([one.label for one in nearest] == seen) > 0.85
    assert all(digits.train_labels[one.image] == one.label for one in nearest)


def test_the_same_images_give_the_same_file(digits, known):
    assert known_images_bytes(digits.fit()) == known_images_bytes(known)


def test_a_file_gives_the_distances_that_were_fitted(digits, known, tmp_path):
    write_known_images(tmp_path / "known.npz", known)
    data = (tmp_path / "known.npz").read_bytes()
    assert len(data) < MOST_BYTES
    read = read_known_images(data, "known.npz")
    assert np.array_equal(digits.distance(read, digits.test), digits.distance(known, digits.test))


def test_fewer_images_than_features_give_finite_distances(digits):
    few = digits.fit(slice(20))
    assert few.dimensions <= 19
    assert np.isfinite(digits.distance(few, digits.test)).all()


def test_a_label_with_two_images_has_both_as_points(digits):
    rare = np.flatnonzero(digits.train_labels == 3)[:2]
    images = np.concatenate([rare, np.flatnonzero(digits.train_labels != 3)])
    numbers = digits.fit(images).arrays["images"]
    assert {0, 1} <= set(numbers.tolist())
    assert len(numbers) == 8 * POINTS_PER_LABEL + 2


def test_features_that_are_all_the_same_are_near_and_others_far(digits):
    same = np.ones((30, 64), np.float32)
    logits = np.ones((30, 9), np.float32)
    known = fit_known_images(same, np.zeros(30, int), same, logits)
    assert known.distance(same, logits).max() < 3
    assert known.distance(digits.test[:1], logits[:1]) > 1000


def test_more_labels_than_points_share_them(digits):
    features = np.random.default_rng(0).normal(size=(MOST_POINTS + 50, 16)).astype(np.float32)
    known = fit_known_images(features, np.arange(len(features)), features[:50], np.zeros((50, 3), np.float32))
    assert len(known.arrays["points"]) == len(known.arrays["centers"]) == MOST_POINTS


def test_features_that_are_not_finite_are_refused_with_their_number(digits):
    broken = digits.train.copy()
    broken[:3] = np.nan
    with pytest.raises(ModelError, match="features of 3 of 1000 training images are not finite"):
        fit_known_images(broken, digits.train_labels, digits.val, digits.logits(digits.val))


def test_features_without_an_image_each_are_refused(digits):
    with pytest.raises(
        ModelError, match=r"training images' features have the shape \[1000, 64\]; one row for each of 9 "
    ):
        fit_known_images(digits.train, digits.train_labels[:9], digits.val, digits.logits(digits.val))


def test_many_features_leave_fewer_directions_so_that_the_file_stays_small():
    wide = np.random.default_rng(0).normal(size=(70, 1 << 14)).astype(np.float32)
    known = fit_known_images(wide, np.zeros(70, int), wide, np.zeros((70, 2), np.float32))
    assert known.dimensions == 14
    assert len(known_images_bytes(known)) < MOST_BYTES


def test_a_summary_that_is_too_large_for_a_bundle_is_refused():
    wide = np.ones((2, 1 << 18), np.float32)
    known = fit_known_images(wide, np.zeros(2, int), wide, np.zeros((2, 2), np.float32))
    with pytest.raises(
        ModelError, match=r"the summary of 262144 features takes \d+ bytes, and a bundle may hold 1048576"
    ):
        known_images_bytes(known)
