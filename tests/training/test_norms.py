"""Batch norms of a pretrained network get the statistics of the training images before its layers are trained."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import edgeclf
from edgeclf.data.pixels import load_batches
from edgeclf.training import norms
from edgeclf.training.backbones import create
from edgeclf.training.loop import strategy
from edgeclf.training.norms import adapt_norms
from edgeclf_runtime.images.preprocess import Preprocessing

SPEC = Preprocessing(64, 64)
CPU = torch.device("cpu")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create("test_efficientnet", 3).eval()


@pytest.fixture
def paths(digits):
    return sorted(digits.rglob("*.png"))[::6]


def logits(network, paths):
    (batch,) = load_batches(paths, SPEC, len(paths), "")
    with torch.no_grad():
        return network(torch.from_numpy(batch)).numpy()


def test_a_network_computes_in_evaluation_what_it_computes_in_training(network, paths):
    before, training = logits(network, paths), logits(copy.deepcopy(network).train(), paths)
    adapt_norms(network, paths, SPEC, CPU)
    after = logits(network, paths)
    assert not network.training
    # One batch has its own variance, and the average is over all; in between there was a factor.
    assert np.abs(after - training).max() < 0.2 * np.abs(before - training).max()


def test_only_the_statistics_change_and_every_image_counts(network, paths, monkeypatch):
    weights = copy.deepcopy(dict(network.named_parameters()))
    momentums = [one.momentum for one in network.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    adapt_norms(network, paths, SPEC, CPU)
    assert all(torch.equal(weights[name], one) for name, one in network.named_parameters())
    assert [one.momentum for one in network.modules() if isinstance(one, torch.nn.BatchNorm2d)] == momentums
    whole = copy.deepcopy(network.state_dict())
    monkeypatch.setattr(norms, "MOST_IMAGES", 10)
    adapt_norms(network, paths, SPEC, CPU)
    assert not all(torch.equal(whole[name], one) for name, one in network.state_dict().items())


def test_a_network_without_batch_norms_stays_as_it_is(paths):
    network = create("test_convnext", 3)
    before = copy.deepcopy(network.state_dict())
    adapt_norms(network, paths, SPEC, CPU)
    assert all(torch.equal(before[name], one) for name, one in network.state_dict().items())


@pytest.mark.parametrize(("finetune", "expected"), [("head", 0), ("gradual", 1), ("full", 1)])
def test_they_are_adapted_where_layers_of_a_pretrained_network_are_trained(
    run, digits, tmp_path, monkeypatch, finetune, expected
):
    adapted = []
    monkeypatch.setattr(strategy, "adapt_norms", lambda network, images, *rest: adapted.append(len(images)))
    options = edgeclf.TrainOptions(
        backbone="test_efficientnet", weights=str(run / "model.safetensors"), finetune=finetune, image_size=64, epochs=1
    )
    edgeclf.train(digits, tmp_path / "new", options)
    assert len(adapted) == expected


def test_frozen_stages_keep_their_weights_and_the_statistics_of_the_training_images(run, digits, tmp_path, monkeypatch):
    adapted = {}

    def adapt(network, *rest):
        adapt_norms(network, *rest)
        adapted.update(copy.deepcopy(network.state_dict()))

    monkeypatch.setattr(strategy, "adapt_norms", adapt)
    options = edgeclf.TrainOptions(
        backbone="test_efficientnet",
        weights=str(run / "model.safetensors"),
        finetune="full",
        freeze=2,
        image_size=64,
        epochs=2,
    )
    edgeclf.train(digits, tmp_path / "new", options)
    trained = load_file(tmp_path / "new" / "model.safetensors")
    same = {name for name, value in trained.items() if torch.equal(value, adapted[name])}
    frozen = {
        name for name in trained if name.startswith(("backbone.conv_stem.", "backbone.bn1.", "backbone.blocks.0."))
    }
    assert frozen <= same
    assert {"backbone.blocks.1.0.conv_exp.weight", "backbone.bn2.running_mean"}.isdisjoint(same)
