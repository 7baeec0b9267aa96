"""First layers that keep the resolution of small images."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import edgeclf
from edgeclf.errors import OptionError, WeightsError
from edgeclf.options import TrainOptions
from edgeclf.training.backbones import create
from edgeclf.training.dry_run.check_export import check_export
from edgeclf.training.runs import read_run
from edgeclf_runtime.images.preprocess import Preprocessing


def last_side(network, side=32):
    """Side of the last feature map."""
    with torch.no_grad():
        image = torch.zeros(1, side, side, 3)
        return network.eval().backbone.forward_features(network.normalize(image.permute(0, 3, 1, 2))).shape[-1]


@pytest.mark.parametrize(
    ("name", "stride", "side"),
    [
        ("resnet18", None, 1),
        ("resnet18", 2, 2),
        ("resnet18", 1, 4),
        ("resnet18d", 1, 4),
        ("mobilenetv3_small_050", 2, 1),
        ("mobilenetv3_small_050", 1, 2),
        ("tf_efficientnet_lite0", 1, 2),
    ],
)
def test_the_last_map_is_larger_by_what_the_stem_keeps(name, stride, side):
    assert last_side(create(name, 10, stem_stride=stride)) == side


def test_the_stem_for_cifar_is_that_of_the_paper():
    backbone = create("resnet18", 10, stem_stride=1).backbone
    assert (backbone.conv1.kernel_size, backbone.conv1.stride, backbone.conv1.padding) == ((3, 3), (1, 1), (1, 1))
    assert isinstance(backbone.maxpool, torch.nn.Identity)


@pytest.mark.parametrize(("name", "stride"), [("resnet18", 1), ("test_resnet", 2), ("mobilenetv3_small_050", 1)])
def test_a_small_stem_can_be_exported_and_quantized(name, stride):
    check_export(create(name, 10, stem_stride=stride), Preprocessing(32, 32))


def test_a_stride_keeps_the_weights_where_no_layer_is_replaced():
    usual, small = (create("tf_efficientnet_lite0", 10, "imagenet", stem_stride=stride) for stride in (None, 1))
    assert torch.equal(usual.backbone.conv_stem.weight, small.backbone.conv_stem.weight)


def test_a_file_of_a_network_with_the_same_stem_fits(tmp_path):
    trained = create("resnet18", 10, stem_stride=1)
    save_file(trained.backbone.state_dict(), tmp_path / "weights.safetensors")
    again = create("resnet18", 10, str(tmp_path / "weights.safetensors"), stem_stride=1)
    assert torch.equal(again.backbone.conv1.weight, trained.backbone.conv1.weight)
    with pytest.raises(WeightsError, match=r"first conv1.weight"):
        create("resnet18", 10, usual_resnet(tmp_path), stem_stride=1)


def usual_resnet(folder):
    save_file(create("resnet18", 10).backbone.state_dict(), folder / "usual.safetensors")
    return str(folder / "usual.safetensors")


@pytest.mark.parametrize("name", ["vgg11", "test_vit"])
def test_other_networks_are_refused_with_some_that_fit(name):
    with pytest.raises(OptionError, match=rf"stem-stride does not fit {name}: ResNets .* such as resnet18"):
        create(name, 10, stem_stride=1)


@pytest.mark.parametrize("stride", [0, 3, 4])
def test_a_stride_that_is_not_offered_is_refused(stride):
    with pytest.raises(OptionError, match=f"stem-stride is {stride}; 1 to 2 was expected"):
        TrainOptions(stem_stride=stride)


def test_a_run_remembers_its_stem(digits, tmp_path):
    options = {"backbone": "test_resnet", "weights": "none", "finetune": "full", "image_size": 32, "epochs": 1}
    edgeclf.train(digits, tmp_path / "run", **options, stem_stride=1, augment="none", crop_padding=4, batch_size=64)
    run = read_run(tmp_path / "run")
    assert run.facts["options"]["stem_stride"] == 1
    network = run.network()
    assert network.backbone.conv1[0].stride == (1, 1)
    edgeclf.export(tmp_path / "run")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        assert network(torch.from_numpy(images)).shape == (2, 3)
