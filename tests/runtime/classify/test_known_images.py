import io
import zipfile

import numpy as np
import pytest

from edgeclf_runtime.classify.known_images import MOST_BYTES, KnownImages, closeness, read_known_images
from edgeclf_runtime.errors import BackendError, BundleError

EQUAL = np.zeros((1, 2), np.float32)


def arrays(**changed):
    """Return a summary of two directions of three features, with the centers and points (1, 0, 0) and (0, 1, 0)."""
    found = {
        "mean": np.zeros(3, np.float32),
        "directions": np.eye(3, 2).astype(np.float16),
        "within": np.eye(2).astype(np.float32),
        "centers": np.eye(2).astype(np.float32),
        "weights": np.zeros(2, np.float32),
        "points": np.eye(2).astype(np.float16),
        "images": np.array([40, 7], np.int32),
        "labels": np.array([0, 1], np.int32),
        "scales": np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]),
    }
    found.update(changed)
    return found


def npz(save=np.savez, **changed):
    stream = io.BytesIO()
    save(stream, **arrays(**changed))
    return stream.getvalue()


def features(*rows):
    return np.array(rows, np.float32)


def distance(row, logits=EQUAL, **changed):
    return float(KnownImages(arrays(**changed)).distance(features(row), np.array(logits, np.float32))[0])


def test_the_distance_is_the_square_to_the_nearest_center_of_features_of_length_1():
    assert distance([5, 0, 0]) == pytest.approx(0)
    assert distance([3, 0, 4]) == pytest.approx(0.4**2 + 0.8**2)
    assert distance([-1, 0, 0]) == pytest.approx(2)


def test_what_lies_outside_of_the_directions_counts_with_its_own_scale():
    # 1 to the center, and 1 outside.
    assert distance([0, 0, 3]) == pytest.approx(1 + 1)
    assert distance([0, 0, 3], scales=np.array([0.0, 1.0, 0.5, 0.25, 0.0, 1.0])) == pytest.approx(1 + 2)


def test_a_direction_in_which_all_images_vary_counts_less():
    weights = np.array([0, 0.75], np.float32)
    assert distance([0, 1, 0]) - distance([0, 1, 0], weights=weights) == pytest.approx(0.75)
    assert distance([1, 0, 0]) == distance([1, 0, 0], weights=weights)


def test_a_direction_in_which_images_of_a_label_vary_less_counts_more():
    within = np.diag([1, 10]).astype(np.float32)
    centers = np.array([[1, 0]], np.float32)
    assert distance([0, -1, 0], within=within, centers=centers) == pytest.approx(1 + 100)


def test_the_mean_and_the_scale_are_taken_off():
    # (1, 0, 0) is (0.5, 0) from the mean, so the nearest center is 0.25 from it.
    found = distance([1, 0, 0], mean=np.array([0.5, 0, 0], np.float32), scales=np.array([0.05, 0.1, 0, 1, 0, 1]))
    assert found == pytest.approx((0.25 - 0.05) / 0.1)


def test_close_logits_make_an_image_more_distant_up_to_a_limit():
    assert distance([1, 0, 0], [[1, 0]]) == pytest.approx(-0.25)
    assert distance([1, 0, 0], [[100, 0]]) == pytest.approx(-0.5)
    assert closeness(np.array([[3, 1, 2]])) == pytest.approx([-1])
    assert closeness(np.array([[3.0]])) == pytest.approx([0])


def test_features_or_logits_that_are_not_finite_are_infinitely_far():
    for value in (np.nan, np.inf):
        assert distance([value, 0, 0]) == np.inf
        assert distance([1, 0, 0], [[value, 0]]) == np.inf


def test_features_of_zeros_have_a_distance():
    assert np.isfinite(distance([0, 0, 0]))


def test_the_nearest_training_images_come_nearest_first():
    known = KnownImages(arrays())
    assert known.nearest(features([1, 0.1, 0], [0.1, 1, 0])) == [[(40, 0), (7, 1)], [(7, 1), (40, 0)]]
    assert known.nearest(features([0, 1, 0]), 1) == [[(7, 1)]]
    assert known.nearest(features([np.nan, 1, 0])) == [[]]


def test_another_file_of_the_network_has_its_own_scales():
    known = KnownImages(arrays())
    other = known.scaled([0, 0.5, 0, 1, 0, 1])
    assert other.distance(features([-1, 0, 0]), EQUAL) == pytest.approx([4])
    assert known.distance(features([-1, 0, 0]), EQUAL) == pytest.approx([2])


def test_images_in_a_batch_have_the_distances_that_they_have_alone():
    rows = np.random.RandomState(0).rand(20, 3).astype(np.float32)
    known, logits = KnownImages(arrays()), np.zeros((20, 2), np.float32)
    alone = [known.distance(rows[i : i + 1], logits[i : i + 1])[0] for i in range(20)]
    assert known.distance(rows, logits) == pytest.approx(alone, abs=1e-5)


def test_features_of_another_size_are_refused():
    with pytest.raises(BackendError, match=r"features of shape \[1, 4\]; \[N, 3\] was expected"):
        KnownImages(arrays()).distance(np.zeros((1, 4), np.float32), EQUAL)


def test_a_file_is_read_back():
    known = read_known_images(npz(), "known.npz")
    assert (known.features, known.dimensions) == (3, 2)
    assert known.distance(features([0, 0, 1]), EQUAL) == pytest.approx([2])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a zip file"),
        (npz()[:-30], "not a zip file"),
        (npz().replace(b"\xf0?", b"\xf0@", 1), "Bad CRC-32"),
        (bytes(MOST_BYTES + 1), "at most 1048576 were expected"),
        (npz(np.savez_compressed), "it is compressed"),
        (npz(mean=np.array([None] * 3)), "an array is of type .*O"),
        (npz(mean=np.zeros(3)), "mean is float64 of 1 dimensions; float32 of 1 was expected"),
        (npz(mean=np.zeros(4, np.float32)), r"mean has the shape \[4\], which does not fit"),
        (npz(centers=np.zeros((0, 2), np.float32)), r"\[0, 2\], which does not fit"),
        (npz(scales=np.ones(3)), r"scales has the shape \[3\]"),
        (npz(points=np.full((2, 2), np.nan, np.float16)), "points has values that are not finite"),
        (npz(scales=np.zeros(6)), "scales must be above 0"),
        (npz(weights=np.array([1, -1], np.float32)), "weights and numbers of images and labels 0 or more"),
        (npz(images=np.array([1, -1], np.int32)), "numbers of images and labels 0 or more"),
        (npz(labels=np.array([1, -1], np.int32)), "numbers of images and labels 0 or more"),
        (npz(directions=np.asfortranarray(np.eye(3, 2).astype(np.float16))), "stored by columns"),
        (npz(more=np.zeros(1)), "it holds .*more"),
    ],
)
def test_a_damaged_file_is_refused(data, message):
    with pytest.raises(BundleError, match="known.npz does not hold the summary of known images .*" + message):
        read_known_images(data, "known.npz")


def test_an_array_that_claims_to_be_huge_is_refused_without_making_it():
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        archive.writestr("mean.npy", stream.getvalue())
    with pytest.raises(BundleError, match="does not hold the summary"):
        read_known_images(found.getvalue(), "known.npz")
