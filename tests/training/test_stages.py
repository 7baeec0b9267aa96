"""Stages of a network: every parameter is in one, the head is the last, and gradual fine-tuning unfreezes from the end."""

import pytest

from edgeclf.training.backbones import create
from edgeclf.training.stages import list_stages, stages_of, thaw, unfrozen


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "vit_tiny_patch16_224", "vgg11"])
def test_every_parameter_belongs_to_one_stage_and_the_head_is_the_last(name):
    network = create(name, 3)
    stages = stages_of(network)
    names = [parameter for stage in stages for parameter in stage.parameters]
    assert sorted(names) == sorted(name for name, _ in network.backbone.named_parameters())
    head = {network.backbone.get_parameter(name) for name in stages[-1].parameters}
    assert head == set(network.head.parameters())


def test_gradual_fine_tuning_begins_at_the_end_and_reaches_the_input():
    counts = [unfrozen(9, epoch, 6) for epoch in range(6)]
    assert counts == [3, 5, 7, 9, 9, 9]
    assert unfrozen(9, 0, 1) == 9


def test_norms_of_frozen_stages_are_in_evaluation_mode():
    network = create("tf_efficientnet_lite0", 3).train()
    thaw(network, 0, 6)
    backbone = network.backbone
    assert not backbone.conv_stem.weight.requires_grad
    assert not backbone.bn1.training
    assert backbone.classifier.weight.requires_grad
    assert backbone.bn2.training
    thaw(network.train(), 5, 6)
    assert backbone.conv_stem.weight.requires_grad
    assert backbone.bn1.training


def test_the_table_adds_up_to_what_timm_publishes():
    report = list_stages("tf_efficientnet_lite0", latency=True)
    # 4.65 M parameters and 0.41 G multiply-adds with a head of 1000 (timm's results); here it has 10.
    assert sum(stage["parameters"] for stage in report.stages) == 4_652_008 - 990 * 1281
    assert sum(stage["multiply_adds"] for stage in report.stages) == pytest.approx(0.384e9, rel=0.01)
    assert all(stage["latency_ms"] > 0 for stage in report.stages)
    assert [stage["head"] for stage in report.stages] == [False] * 8 + [True]
    assert max(map(len, str(report).splitlines())) <= 80
