"""Which networks are quantized as transformers: those with attention, layer norm or GELU, whatever their activations are."""

import pytest
import torch
from torch import nn

from edgeclf.graph.int8.forms import STANDARD, choose
from edgeclf.graph.int8.transformer import is_transformer
from edgeclf.graph.onnx_file import write_onnx
from edgeclf.graph.prepare import prepare
from edgeclf.targets import FLAVORS
from edgeclf.training.backbones import create
from edgeclf_runtime.images.preprocess import Preprocessing


class Generalized(nn.Module):
    """Generalized-mean pooling: powers, and the root of a mean that divides nothing."""

    def forward(self, maps):
        pooled = nn.functional.avg_pool2d(maps.clamp(min=1e-3).pow(3), 3).pow(1 / 3)
        return pooled + maps.square().mean((2, 3), keepdim=True).sqrt()


class Exponential(nn.Module):
    """An activation with an exponential, and no softmax."""

    def forward(self, maps):
        return 1 - torch.exp(-maps.abs())


class Classifier(nn.Module):
    """A small network with one operator between two convolutions; images are [N, height, width, 3]."""

    def __init__(self, middle):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3), middle, nn.Conv2d(32, 64, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)
        )

    def forward(self, images):
        return self.layers(images.permute(0, 3, 1, 2) / 255)


class Channels(nn.Module):
    """Layer norm over the channels, as ConvNeXt has it."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(32)

    def forward(self, maps):
        return self.norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RootMeanSquare(nn.Module):
    """RMS norm over the channels."""

    def forward(self, maps):
        return maps * torch.rsqrt(maps.square().mean(1, keepdim=True) + 1e-6)


def prepared(network, folder, side=32):
    write_onnx(network.eval(), Preprocessing(side, side), folder / "model.onnx", {})
    return prepare(folder / "model.onnx")


@pytest.mark.parametrize(
    "middle",
    [nn.Tanh(), nn.Mish(), nn.SiLU(), Generalized(), Exponential(), nn.GroupNorm(4, 32), nn.LPPool2d(2, 2)],
    ids=lambda layer: type(layer).__name__,
)
def test_activations_and_poolings_make_no_transformer(middle, tmp_path):
    model = prepared(Classifier(middle), tmp_path)
    assert not is_transformer(model.graph)
    assert "Gemm" not in choose(model, FLAVORS["int8-cpu"], STANDARD).float_outputs


@pytest.mark.parametrize(
    "middle",
    [nn.GELU(), nn.GELU("tanh"), Channels(), RootMeanSquare(), nn.Softmax(1)],
    ids=["gelu", "gelu-tanh", "layer-norm", "rms-norm", "softmax"],
)
def test_attention_layer_norm_and_gelu_make_one(middle, tmp_path):
    assert is_transformer(prepared(Classifier(middle), tmp_path).graph)


@pytest.mark.parametrize(("backbone", "expected"), [("test_vit", True), ("test_byobnet", False)])
def test_a_vit_is_one_and_a_convolutional_network_is_not(backbone, expected, tmp_path):
    model = prepared(create(backbone, 2), tmp_path, 160)
    assert is_transformer(model.graph) is expected
