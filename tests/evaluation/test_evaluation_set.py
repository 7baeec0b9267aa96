import numpy as np
import pytest

from edgeclf.data.datasets import load_dataset
from edgeclf.errors import DataError
from edgeclf.evaluation import evaluation_set
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing, preprocess
from edgeclf_runtime.images.read import read_image

SPEC = Preprocessing(32, 32)


@pytest.fixture
def samples(digits):
    return load_dataset(digits).split("val")[:6]


def decoded(monkeypatch):
    """Count the images that are decoded from now on."""
    count = []
    load = evaluation_set.load_all
    monkeypatch.setattr(evaluation_set, "load_all", lambda paths, spec: map(count_one(count), load(paths, spec)))
    return count


def count_one(count):
    def one(image):
        count.append(1)
        return image

    return one


def test_images_come_as_the_device_sees_them_with_their_labels(samples):
    images = EvaluationSet(samples, ("3", "5", "8"), SPEC)
    assert [images.labels[index] for index in images.truth] == [sample.label for sample in samples]
    for image, batch, sample in zip(images.pixels(), images.batches(), samples, strict=True):
        assert np.array_equal(image, preprocess(read_image(sample.path), SPEC))
        assert (batch.shape, batch.dtype) == ((1, 32, 32, 3), np.float32)
    assert images.sha256 == [sha256_file(sample.path) for sample in samples]


def test_images_that_fit_are_decoded_once(samples, monkeypatch):
    count = decoded(monkeypatch)
    images = EvaluationSet(samples, ("3", "5", "8"), SPEC)
    first, second = list(images.pixels()), list(images.pixels())
    assert len(count) == len(samples)
    assert np.array_equal(first, second)
    assert np.array_equal(list(images.subset([4, 1]).pixels()), [first[4], first[1]])


def test_images_that_do_not_fit_are_decoded_again(samples, monkeypatch):
    count = decoded(monkeypatch)
    monkeypatch.setattr(evaluation_set, "MOST_BYTES_KEPT", 6 * 32 * 32 * 3 - 1)
    images = EvaluationSet(samples, ("3", "5", "8"), SPEC)
    assert np.array_equal(list(images.pixels()), list(images.pixels()))
    assert len(count) == 2 * len(samples)


def test_images_that_were_not_all_read_are_not_kept(samples, monkeypatch):
    count = decoded(monkeypatch)
    images = EvaluationSet(samples, ("3", "5", "8"), SPEC)
    next(images.pixels())
    assert len(list(images.pixels())) == len(samples)
    assert len(count) >= len(samples) + 1


def test_a_label_that_the_model_does_not_know_is_named(samples):
    with pytest.raises(DataError, match="cells has the labels 5, which the model does not know; it knows 3, nine"):
        EvaluationSet(samples, ("3", "nine"), SPEC, "cells")
