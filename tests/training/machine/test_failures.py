"""Losses, features and weights that are not finite, and the cause that is named."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from edgeclf import TrainOptions
from edgeclf.errors import ModelError, WeightsError
from edgeclf.training.backbones import create
from edgeclf.training.loop.fit import Plan
from edgeclf.training.loop.head import fit_head
from edgeclf.training.loop.trainer import run_fit
from edgeclf.training.loop.trials import find_rate
from edgeclf.training.machine.determinism import seeded
from edgeclf.training.machine.failures import not_the_rate
from tests.support.training import SMALL


def fit_linear(network, rate, inputs):
    """Train a small network on 40 rows at a rate."""
    plan = Plan(TrainOptions(batch_size=8), 2, 2, 5, rate)
    rows = TensorDataset(inputs, torch.arange(40) % 2, torch.arange(40))
    with seeded(0):
        run_fit("", network, plan, lambda _: dict.fromkeys(("train", "val"), DataLoader(rows, 8)), torch.device("cpu"))


def test_a_loss_that_is_not_finite_stops_with_batch_and_rate():
    with pytest.raises(
        ModelError, match=r"the loss is nan in batch 2 of epoch 0, at a learning rate of .* smaller --learn"
    ):
        fit_linear(torch.nn.Linear(4, 2), 1e38, torch.randn(40, 4) * 100)


def test_a_loss_that_was_never_finite_does_not_blame_the_rate():
    overflowing = torch.nn.Sequential(torch.nn.Linear(4, 2), Times(1e38), Times(1e38))
    with pytest.raises(
        ModelError, match=r"batch 1 of epoch 0; no step was taken before, .* logits that are not finite"
    ):
        fit_linear(overflowing, 1e-3, torch.randn(40, 4))
    damaged = torch.nn.Linear(4, 2)
    damaged.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"epoch 0; the weights of weight are infinite or not a number: .* --weights"):
        fit_linear(damaged, 1e-3, torch.randn(40, 4))
    with pytest.raises(ModelError, match=r"epoch 0; its inputs are infinite or not a number: check the images"):
        fit_linear(torch.nn.Linear(4, 2), 1e-3, torch.full((40, 4), torch.inf))


class Times(torch.nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, values):
        return values * self.factor


def test_a_sweep_of_rates_does_not_blame_them_for_weights():
    damaged = torch.nn.Linear(4, 2)
    damaged.weight.data[0, 0] = float("nan")
    rows = DataLoader(TensorDataset(torch.ones(8, 4), torch.arange(8) % 2, torch.arange(8)), 8)
    with pytest.raises(ModelError, match=r"the loss is nan before the first step; the weights of weight are"):
        find_rate(damaged, Plan(TrainOptions(), 2, 1, 1, 1e-3), rows, torch.device("cpu"))


def test_values_that_16_bits_cannot_hold_ask_for_float32():
    network = torch.nn.Linear(2, 2)
    assert "use --compute float32" in not_the_rate(network, torch.ones(1, 2), 5, "16-mixed")
    assert not_the_rate(network, torch.ones(1, 2), 5, "32-true") == ""


def test_features_that_are_not_finite_are_named():
    features = {split: np.ones((40, 4), np.float32) for split in ("train", "val")}
    features["val"][3] = np.inf
    targets = {split: np.arange(40) % 2 for split in ("train", "val")}
    with pytest.raises(ModelError, match=r"features of 1 of 40 val images are infinite .* --mean and --std"):
        fit_head(torch.nn.Linear(4, 2), features, targets, TrainOptions(epochs=2, batch_size=8))


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    state = create(SMALL, 3).backbone.state_dict()
    state["blocks.0.0.bn1.weight"][1] = torch.nan
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(
        WeightsError, match=r"infinite or not a number, in 1 of \d+ tensors, first blocks.0.0.bn1.weight"
    ):
        create(SMALL, 3, str(tmp_path / "weights.pth"))
