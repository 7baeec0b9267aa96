"""The head of a weights file, kept in the order of the labels."""

import pytest
import timm
import torch
import torchvision

from edgeclf.errors import WeightsError
from edgeclf.training.backbones import create
from edgeclf.training.weights.head import keep_head
from edgeclf.training.weights.sources import Weights
from tests.support.weights import SMALL


def head_file(path, classes, **beside):
    """Write a checkpoint of SMALL with a head, and give the head's weight."""
    torch.manual_seed(3)
    model = timm.create_model(SMALL, num_classes=classes)
    torch.save({"model": {f"module.{name}": value for name, value in model.state_dict().items()}, **beside}, path)
    return model.classifier.weight


def kept(path, labels):
    """Give a network with the head of a file, and what was said of it."""
    weights = Weights("file", str(path), path)
    network = create(SMALL, len(labels), weights)
    return network, keep_head(network, weights, labels)


def test_a_head_that_fits_is_kept_and_its_order_is_warned_of(tmp_path):
    weight = head_file(tmp_path / "weights.pth", 3)
    network, note = kept(tmp_path / "weights.pth", ("3", "5", "8"))
    assert torch.equal(network.head.weight, weight)
    assert "make sure that its outputs are, in this order, 3, 5, 8" in note


@pytest.mark.parametrize(
    "beside",
    [{"class_names": ["8", "3", "5"]}, {"class_to_idx": {"3": 1, "5": 2, "8": 0}}, {"names": {0: "8", 1: "3", 2: "5"}}],
)
def test_a_head_is_put_into_the_order_of_the_labels_that_its_file_names(tmp_path, beside):
    weight = head_file(tmp_path / "weights.pth", 3, **beside)
    network, note = kept(tmp_path / "weights.pth", ("3", "5", "8"))
    assert torch.equal(network.head.weight, weight[[1, 2, 0]])
    assert "it names the same 3 labels" in note


def test_a_head_of_other_labels_or_another_number_of_them_is_refused_with_both(tmp_path):
    head_file(tmp_path / "weights.pth", 3, label_names=["a", "b", "c"])
    with pytest.raises(WeightsError, match=r"trained with the labels a, b, c, but the data has 3, 5, 8"):
        kept(tmp_path / "weights.pth", ("3", "5", "8"))
    with pytest.raises(
        WeightsError, match=r"has a head of 3 outputs, but the data has 2 labels \(3, 5\): .*--keep-head"
    ):
        kept(tmp_path / "weights.pth", ("3", "5"))


def test_torchvisions_head_is_kept_too(tmp_path):
    original = torchvision.models.resnet18(num_classes=3)
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    weights = Weights("file", "weights.pth", tmp_path / "weights.pth")
    network = create("resnet18", 3, weights)
    keep_head(network, weights, ("a", "b", "c"))
    assert torch.equal(network.head.weight, original.fc.weight)


def test_a_file_without_a_head_has_none_to_keep(tmp_path):
    torch.save(timm.create_model(SMALL, num_classes=0).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"has no head that could be kept: leave out --keep-head"):
        kept(tmp_path / "weights.pth", ("a", "b"))
