"""What a results folder says of an evaluation besides its figures."""

import numpy as np
import pytest

from edgeclf.data.datasets import Sample
from edgeclf.evaluation.evaluate import measure
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf.evaluation.result_subject import suspects_of
from edgeclf_runtime.images.preprocess import Preprocessing


def evaluation(split="test"):
    """An evaluation of 60 images, of which the labels of 5 and 9 are wrong and the model is sure of the right ones."""
    truth = np.arange(60) % 3
    logits = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32) + 4 * np.eye(3, dtype=np.float32)[truth]
    logits[5], logits[9] = (9, 0, 0), (0, 11, 0)
    samples = [Sample(f"{number}.png", "abc"[label], split) for number, label in enumerate(truth)]
    return measure("fp32", "photos", split, EvaluationSet(samples, tuple("abc"), Preprocessing(8, 8)), logits)


def test_labels_that_are_likely_wrong_are_named_with_what_the_model_sees():
    found = suspects_of(evaluation())
    assert [(one.path, one.label, one.predicted) for one in found] == [("9.png", "a", "b"), ("5.png", "c", "a")]
    assert all(one.probability < 0.01 for one in found)


@pytest.mark.parametrize("change", ["train", "nan"])
def test_nothing_is_said_of_labels_that_the_model_learned_or_of_logits_that_are_not_finite(change):
    found = evaluation("train" if change == "train" else "test")
    if change == "nan":
        found.logits[0, 0] = np.nan
    assert suspects_of(found) == []
