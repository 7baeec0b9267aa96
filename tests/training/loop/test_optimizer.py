"""Schedules of the learning rate, and weight decay."""

import pytest
from torch import nn

from edgeclf import TrainOptions
from edgeclf.training.loop.optimizer import make_optimizer
from edgeclf.training.loop.schedule import make_schedule


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"schedule": "constant"}, [1, 1, 1, 1]),
        ({"schedule": "step", "step_epochs": 2, "step_factor": 0.1}, [1, 1, 0.1, 0.1]),
        ({"schedule": "cosine"}, [1, 0.8536, 0.5, 0.1464]),
        ({"schedule": "cosine", "warmup": 1}, [1 / 11, 1, 0.75, 0.25]),
    ],
)
def test_schedules_change_the_rate_as_they_say(options, rates):
    options = TrainOptions(**options)
    optimizer = make_optimizer([list(nn.Linear(2, 2).parameters())], options, 1.0, 1.0)
    schedule, found = make_schedule(optimizer, options, 4, 10), []
    for step in range(40):
        if step % 10 == 0:
            found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(rates, abs=1e-4)


def test_biases_and_norms_have_no_weight_decay_and_early_stages_a_smaller_rate():
    stages = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)]
    optimizer = make_optimizer([list(stage.parameters()) for stage in stages], TrainOptions(), 0.1, 0.5)
    groups = {tuple(one.shape): group for group in optimizer.param_groups for one in group["params"]}
    assert groups[4, 3, 3, 3]["weight_decay"] == groups[2, 4]["weight_decay"] == 0.01
    assert groups[4,]["weight_decay"] == groups[2,]["weight_decay"] == 0
    assert groups[2, 4]["lr"] == 0.1
    assert groups[4, 3, 3, 3]["lr"] == 0.025
