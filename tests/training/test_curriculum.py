"""A curriculum: the easiest images of each label first, the others epoch by epoch."""

import numpy as np
import pytest
import torch

import edgeclf
from edgeclf import TrainOptions
from edgeclf.errors import OptionError
from edgeclf.training.curriculum import rank, share_of_epoch
from edgeclf.training.loop.loaders import EpochSampler
from edgeclf.training.loop.loss import NO_TARGET
from tests.support.training import sha256
from tests.training.test_resume import stopped_after


def test_images_are_ranked_within_their_label_by_the_loss_of_the_head():
    head = torch.nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
    features = np.array([[3, 0], [1, 0], [2, 0], [0, 1], [0, 4], [0, 0]], np.float32)
    targets = np.array([0, 0, 0, 1, 1, NO_TARGET])
    taught = np.array([[0, 0]] * 5 + [[0, 9]], np.float32)
    assert rank(head, features, targets, taught).tolist() == pytest.approx([0, 2 / 3, 1 / 3, 1 / 3, 0, 2 / 3])


def test_all_images_are_used_from_the_middle_on():
    assert [share_of_epoch(epoch, 8, 0.4) for epoch in range(6)] == pytest.approx([0.4, 0.55, 0.7, 0.85, 1, 1])
    assert share_of_epoch(0, 1, 0.4) == 0.4


@pytest.mark.parametrize("weights", [None, np.ones(10)])
def test_an_epoch_of_few_images_is_as_long_as_one_of_all(weights):
    sampler = EpochSampler(10, 0, lambda: 0, weights, chosen=lambda epoch: np.array([1, 4, 7]))
    drawn = [draw.image for draw in sampler]
    assert len(drawn) == 10
    assert set(drawn) <= {1, 4, 7}
    assert weights is not None or max(np.bincount(drawn)) == 4


def test_a_sampler_that_chooses_all_images_draws_as_one_without_a_choice():
    usual, chosen = EpochSampler(10, 0, lambda: 2), EpochSampler(10, 0, lambda: 2, chosen=lambda _: np.arange(10))
    assert list(usual) == list(chosen)


def test_a_curriculum_that_was_interrupted_ends_as_if_it_had_not_been(digits, tmp_path, monkeypatch):
    options = TrainOptions(curriculum=0.3, finetune="full", epochs=2, image_size=32, workers=0)
    with stopped_after(monkeypatch, 13):  # 12 of the head, and one more
        edgeclf.train(digits, tmp_path / "run", options)
    report = edgeclf.train(digits, tmp_path / "run", options, resume=True)
    whole = edgeclf.train(digits, tmp_path / "whole", options)
    assert report.history == whole.history
    assert sha256(tmp_path / "run") == sha256(tmp_path / "whole")
    other = edgeclf.train(digits, tmp_path / "other", options, curriculum=None)
    assert other.history[0] == whole.history[0]
    assert other.history[1] != whole.history[1]


def test_it_needs_images_and_a_head_that_knows_which_are_easy():
    with pytest.raises(OptionError, match="curriculum is for images, but head trains on features"):
        TrainOptions(curriculum=0.5)
    with pytest.raises(OptionError, match="curriculum ranks images by a head on the pretrained backbone"):
        TrainOptions(curriculum=0.5, finetune="full", weights="none")
