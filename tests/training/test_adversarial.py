"""Adversarial training: a network sees its worst images, within a few levels of the true ones."""

import pytest
import torch
from torch import nn

import edgeclf
from edgeclf import TrainOptions
from edgeclf.errors import OptionError
from edgeclf.training.loop.loss import Objective
from tests.support.training import quick, sha256
from tests.training.test_resume import stopped_after


class Watched(nn.Module):
    """A linear network that keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(3 * 4 * 4, 2), []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.linear(images.flatten(1) / 255)


def test_the_images_are_changed_within_the_limit_so_that_the_loss_rises():
    torch.manual_seed(0)
    network, images = Watched(), torch.randint(0, 256, (16, 4, 4, 3)).float()
    targets = torch.arange(16) % 2
    plain = Objective(TrainOptions(finetune="full"), 2)(network, images, targets, torch.arange(16))
    worse = Objective(TrainOptions(finetune="full", adversarial=8), 2)(network, images, targets, torch.arange(16))
    assert worse > plain
    changed = network.seen[-1]
    assert float((changed - images).abs().max()) == pytest.approx(8, abs=1e-3)
    assert changed.min() >= 0
    assert changed.max() <= 255
    # The gradient of the attack does not reach the weights.
    assert network.linear.weight.grad is None
    worse.backward()
    assert network.linear.weight.grad is not None


def test_an_adversarial_training_that_was_interrupted_ends_as_if_it_had_not_been(digits, tmp_path, monkeypatch):
    options = quick(finetune="gradual", epochs=3, adversarial=4, cutmix=1.0, workers=0)
    with stopped_after(monkeypatch, 1):
        edgeclf.train(digits, tmp_path / "run", options)
    edgeclf.train(digits, tmp_path / "run", options, resume=True)
    edgeclf.train(digits, tmp_path / "whole", options)
    assert sha256(tmp_path / "run") == sha256(tmp_path / "whole")


def test_the_best_epoch_is_the_one_that_recognizes_most_attacked_images(digits, tmp_path):
    report = edgeclf.train(digits, tmp_path / "run", quick(finetune="full", epochs=3, adversarial=16, workers=0))
    attacked = [row["val_attacked_accuracy"] for row in report.history]
    assert len(attacked) == 3
    assert all(worse <= row["val_accuracy"] for worse, row in zip(attacked, report.history, strict=True))
    assert attacked[report.best_epoch] == max(attacked)


def test_features_are_not_attacked():
    with pytest.raises(OptionError, match="adversarial is for images, but head trains on features; add --finetune"):
        TrainOptions(adversarial=4)
