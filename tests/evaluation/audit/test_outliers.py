"""Images that are far from all others."""

import numpy as np

from edgeclf.evaluation.audit.outliers import FAR, distances


def cluster(count):
    random = np.random.default_rng(0)
    direction = random.normal(0, 1, 32)
    return (4 * direction / np.linalg.norm(direction) + random.normal(0, 0.2, (count, 32))).astype(np.float32)


def test_an_image_in_another_direction_is_far():
    values = cluster(100)
    values[40] = -values[40]
    found = distances(values, np.arange(100), np.ones(100, bool))
    assert np.flatnonzero(found > FAR).tolist() == [40]


def test_copies_of_an_outlier_do_not_hide_it():
    values = cluster(100)
    values[:20] = -values[0]
    groups = np.arange(100)
    groups[:20] = 0
    found = distances(values, groups, np.ones(100, bool))
    assert np.flatnonzero(found > FAR).tolist() == list(range(20))


def test_images_of_the_test_split_are_measured_but_are_no_neighbors():
    values = cluster(100)
    values[90:] = -values[90:]
    known = np.arange(100) < 90
    found = distances(values, np.arange(100), known)
    assert (found[90:] > FAR).all()
    assert np.array_equal(found[:90], distances(values[:90], np.arange(90), known[:90]))


def test_equal_images_have_no_outlier():
    assert (distances(np.ones((12, 4), np.float32), np.arange(12), np.ones(12, bool)) <= FAR).all()
