"""Stages of a network: every parameter is in one, the head is the last, and gradual fine-tuning unfreezes from the end."""

import pytest

from edgeclf import OptionError, TrainOptions
from edgeclf.training.backbones import create
from edgeclf.training.stages import check_freeze, list_stages, stages_of, thaw, unfrozen


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
    options = TrainOptions(finetune="gradual", epochs=6)
    thaw(network, 0, options)
    backbone = network.backbone
    assert not backbone.conv_stem.weight.requires_grad
    assert not backbone.bn1.training
    assert backbone.classifier.weight.requires_grad
    assert backbone.bn2.training
    thaw(network.train(), 5, options)
    assert backbone.conv_stem.weight.requires_grad
    assert backbone.bn1.training


@pytest.mark.parametrize(("finetune", "epoch"), [("full", 0), ("gradual", 5)])
def test_freeze_keeps_the_first_stages_as_they_are_to_the_end(finetune, epoch):
    network = create("tf_efficientnet_lite0", 3).train()
    thaw(network, epoch, TrainOptions(finetune=finetune, epochs=6, freeze=2))
    backbone = network.backbone
    assert not backbone.bn1.training
    assert not any(one.requires_grad for one in [*backbone.conv_stem.parameters(), *backbone.blocks[0].parameters()])
    assert all(one.requires_grad for one in backbone.blocks[1].parameters())


def test_freeze_leaves_a_stage_before_the_head_to_train():
    network = create("test_efficientnet", 3)
    last = len(stages_of(network)) - 2
    check_freeze(network, last)
    with pytest.raises(
        OptionError, match=f"freeze is {last + 1}, but the network has {last + 1} stages before its head"
    ):
        check_freeze(network, last + 1)


def test_the_table_adds_up_to_what_timm_publishes():
    report = list_stages("tf_efficientnet_lite0", latency=True)
    # 4.65 M parameters and 0.41 G multiply-adds with a head of 1000 (timm's results); here it has 10.
    assert sum(stage["parameters"] for stage in report.stages) == 4_652_008 - 990 * 1281
    assert sum(stage["multiply_adds"] for stage in report.stages) == pytest.approx(0.384e9, rel=0.01)
    assert all(stage["latency_ms"] > 0 for stage in report.stages)
    assert [stage["head"] for stage in report.stages] == [False] * 8 + [True]
    assert max(map(len, str(report).splitlines())) <= 80
