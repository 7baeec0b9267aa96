import numpy as np
import pytest

from edgeclf.errors import ModelError, OptionError
from edgeclf.evaluation.rejection.distance_threshold import fit_distance_threshold


def test_the_wanted_share_of_new_images_is_kept_on_average():
    random = np.random.default_rng(0)
    kept = [
        (random.normal(size=2000) <= fit_distance_threshold(random.normal(size=59), 0.9).threshold).mean()
        for _ in range(200)
    ]
    assert np.mean(kept) == pytest.approx(0.9, abs=0.01)


def test_the_interval_holds_the_share_of_new_images_in_95_of_100_choices():
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        found = fit_distance_threshold(random.uniform(size=100), 0.9)
        # Of uniform distances, the threshold is the share that is kept.
        inside += found.interval[0] <= found.threshold <= found.interval[1]
    assert inside / 300 == pytest.approx(0.95, abs=0.03)


def test_the_threshold_is_a_distance_and_that_image_is_kept():
    found = fit_distance_threshold(np.arange(99, dtype=np.float32), 0.95)
    assert (found.threshold, found.images, found.kept) == (94, 99, round(95 / 99, 4))


def test_with_too_few_images_all_are_kept_and_the_interval_tells():
    found = fit_distance_threshold(np.arange(5, dtype=np.float32), 0.95)
    assert (found.threshold, found.kept) == (4, 1)
    assert found.interval[0] < 0.5


@pytest.mark.parametrize("keep", [0, 1, 1.5, float("nan")])
def test_a_share_that_is_not_between_0_and_1_is_refused(keep):
    with pytest.raises(OptionError, match="more than 0 and less than 1 was expected"):
        fit_distance_threshold(np.zeros(10), keep)


@pytest.mark.parametrize("distances", [[], [0.0, np.inf]])
def test_distances_that_are_missing_or_not_finite_are_refused(distances):
    with pytest.raises(ModelError, match="validation images are not finite"):
        fit_distance_threshold(np.array(distances), 0.95)
