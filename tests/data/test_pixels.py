"""Loading pixels: decoded, preprocessed, in order, and only as many as needed."""

import numpy as np
import pytest

from edgeclf.data.pixels import load_all, load_batches, load_pixels
from edgeclf.errors import ImageError
from edgeclf_runtime.images.preprocess import Preprocessing, preprocess
from edgeclf_runtime.images.read import read_image

SPEC = Preprocessing(32, 32)


@pytest.fixture(scope="module")
def paths(digits):
    return sorted(digits.rglob("*.png"))


def test_pixels_are_those_of_the_runtime(paths):
    assert np.array_equal(load_pixels(paths[0], SPEC), preprocess(read_image(paths[0]), SPEC))


def test_batches_hold_every_image_in_order_and_the_last_what_is_left(paths):
    batches = list(load_batches(paths[:70], SPEC, 32, "loading"))
    assert [batch.shape for batch in batches] == [(32, 32, 32, 3), (32, 32, 32, 3), (6, 32, 32, 3)]
    assert batches[0].dtype == np.float32
    assert np.array_equal(np.concatenate(batches), np.stack([load_pixels(path, SPEC) for path in paths[:70]]))


def test_a_file_that_went_bad_is_named(paths, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(paths[0].read_bytes()[:100])
    with pytest.raises(ImageError, match=r"bad\.png: .*; replace or remove it"):
        list(load_batches([*paths[:3], bad, *paths[3:]], SPEC, 8, "loading"))


def test_only_a_few_images_are_held_at_a_time(paths):
    taken = []

    def names():
        for path in paths:
            taken.append(path)
            yield path

    images = load_all(names(), SPEC)
    next(images)
    assert len(taken) < 40
    images.close()
