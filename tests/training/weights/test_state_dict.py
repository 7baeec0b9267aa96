"""Tensors that fit a backbone by name, or by order, and those that do not."""

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from edgeclf.errors import WeightsError
from edgeclf.training.backbones import create
from tests.support.weights import SMALL


@pytest.fixture(scope="module")
def trained():
    """A backbone whose every weight differs from a fresh one's."""
    torch.manual_seed(1)
    network = create(SMALL, 1000).eval()
    for tensor in network.backbone.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
    return network


def features(network):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32))
    with torch.inference_mode():
        return network.eval().features(images)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_a_file_of_weights_gives_the_same_features(trained, tmp_path, suffix):
    file = tmp_path / f"weights{suffix}"
    state = trained.backbone.state_dict()
    save_file(state, file) if suffix == ".safetensors" else torch.save({"state_dict": state}, file)
    assert torch.equal(features(create(SMALL, 3, str(file))), features(trained))


def test_the_weights_of_a_run_are_a_start_for_another(trained, tmp_path):
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    assert torch.equal(features(create(SMALL, 3, str(tmp_path / "model.safetensors"))), features(trained))


def test_weights_of_another_backbone_are_refused(trained, tmp_path):
    save_file(trained.backbone.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other.safetensors does not fit resnet18: .* use weights of this backbone"):
        create("resnet18", 3, str(tmp_path / "other.safetensors"))


def test_as_many_tensors_under_other_names_are_refused(trained, tmp_path):
    state = {f"layer{number}": value for number, value in enumerate(trained.backbone.state_dict().values())}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=f"does not fit {SMALL}"):
        create(SMALL, 3, str(tmp_path / "other.pth"))


def test_a_file_of_another_backbone_is_not_taken_in_order(tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(
        WeightsError, match=r"does not fit resnet18: .* use weights of this backbone, or --weights none"
    ):
        create("resnet18", 3, str(tmp_path / "weights.pth"))


def test_weights_that_fit_by_order_are_read_once(tmp_path, monkeypatch):
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "weights.pth")
    read, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *given, **options: read.append(given) or load(*given, **options))
    create("mobilenetv2_100", 3, str(tmp_path / "weights.pth"))
    assert len(read) == 1
