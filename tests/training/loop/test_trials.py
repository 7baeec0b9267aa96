"""Short trials before a training: the learning rate, and the epochs that fit into a time."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeclf import TrainOptions
from edgeclf.errors import OptionError
from edgeclf.training.loop import trials
from edgeclf.training.loop.fit import Plan


def separable():
    generator = np.random.default_rng(0)
    targets = np.arange(64) % 2
    values = torch.from_numpy((generator.normal(size=(64, 4)) + 3 * targets[:, None]).astype(np.float32))
    data = [
        (value, torch.tensor(target), index) for index, (value, target) in enumerate(zip(values, targets, strict=True))
    ]
    return torch.utils.data.DataLoader(data, 16)


def test_the_rate_that_is_found_trains_better_than_one_that_is_far_too_small():
    torch.manual_seed(0)
    plan = Plan(TrainOptions(), 2, 1, 4, 1e-3)
    rate = trials.find_rate(nn.Linear(4, 2), plan, separable(), torch.device("cpu"))
    assert 1e-3 < rate < 1


def test_a_time_that_is_too_short_for_an_epoch_is_refused_and_a_long_one_allows_all():
    network, cpu = nn.Linear(4, 2), torch.device("cpu")
    plan = Plan(TrainOptions(minutes=0.01), 2, 7, 10**9, 1e-3)
    parts = {"train": separable(), "val": separable()}
    with pytest.raises(OptionError, match=r"minutes is 0\.01, but one epoch takes about \d+ s here; .* was expected"):
        trials.plan_epochs(network, plan, parts, cpu, 0.6)
    assert trials.plan_epochs(network, Plan(TrainOptions(), 2, 7, 4, 1e-3), parts, cpu, 600.0) == 7
