"""Backbones by name, and the network that is trained."""

import pytest
import torch

from edgeclf.errors import OptionError
from edgeclf.training.backbones import create
from tests.support.weights import SMALL


def test_the_graph_takes_raw_pixels_and_normalizes_them_itself():
    network = create(SMALL, 3)
    pixels = torch.randint(0, 256, (2, 64, 64, 3)).float()
    mean, std = (torch.tensor(network.backbone.pretrained_cfg[name]) for name in ("mean", "std"))
    by_hand = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    assert torch.allclose(network.normalize(pixels.permute(0, 3, 1, 2)), by_hand, atol=1e-5)
    assert network.eval()(pixels).shape == (2, 3)


def test_an_unknown_backbone_is_answered_with_near_ones():
    with pytest.raises(OptionError, match=r"there is no backbone 'resnet19'; did you mean .*resnet18"):
        create("resnet19", 3)
    with pytest.raises(OptionError, match=r"there is no backbone 'zzz'; edgeclf list backbones names them all"):
        create("zzz", 3)


def test_a_head_of_another_kind_is_refused():
    with pytest.raises(OptionError, match="a backbone with a linear head was expected"):
        create("deit_tiny_distilled_patch16_224", 3)
