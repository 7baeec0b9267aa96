"""Losses and their targets."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeclf import TrainOptions
from edgeclf.training.loop import loaders
from edgeclf.training.loop.loss import Loss, class_weights
from edgeclf.training.loop.mixup import blending

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
TARGETS = torch.tensor([0, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_focal_loss_without_gamma_is_cross_entropy_and_with_it_less_for_what_is_right(smoothing):
    usual = Loss(TrainOptions(label_smoothing=smoothing))
    nearly = Loss(TrainOptions(loss="focal", focal_gamma=1e-6, label_smoothing=smoothing))
    assert float(nearly(LOGITS, TARGETS)) == pytest.approx(float(usual(LOGITS, TARGETS)), rel=1e-4)
    focal, right = Loss(TrainOptions(loss="focal")), LOGITS[:1]
    assert focal(right, TARGETS[:1]) < 0.1 * usual(right, TARGETS[:1])


def test_hard_targets_are_soft_targets_with_one_label():
    one_hot = nn.functional.one_hot(TARGETS, 3).float()
    for options in (TrainOptions(), TrainOptions(loss="focal", label_smoothing=0.1)):
        loss = Loss(options)
        assert float(loss(LOGITS, TARGETS)) == pytest.approx(float(loss(LOGITS, one_hot)), rel=1e-5)


def test_rare_labels_weigh_as_much_as_frequent_ones():
    targets = np.array([0] * 6 + [1] * 2)
    weights = class_weights(targets, 3)
    assert weights.tolist() == pytest.approx([8 / 18, 8 / 6, 0])
    sampler = loaders.EpochSampler(8000, 0, lambda: 0, np.tile(loaders.image_weights(targets, 3), 1000))
    share = np.mean([targets[draw.image % 8] for draw in sampler])
    assert share == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0, "finetune": "full"}])
def test_blended_images_keep_shape_and_their_targets_sum_to_one(options):
    blend = blending(TrainOptions(**options), 3)
    torch.manual_seed(0)
    images, targets = blend(torch.rand(4, 8, 8, 3), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 8, 8, 3)
    assert targets.sum(1).tolist() == pytest.approx([1] * 4)
    assert ((targets > 0).sum(1) == 2).any()
