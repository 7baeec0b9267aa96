"""Networks of many kinds go the whole way: attention, layer norm, GELU, layer scale, group norm, and convolutions in a row."""

import contextlib
import io
import subprocess
import sys

import numpy as np
import onnx
import pytest
import timm
import torch

import edgeclf
from edgeclf.errors import ModelError, WeightsError
from edgeclf.graph.fp16 import halve, halve_remainder
from edgeclf.graph.host_form import HostRunner
from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.qdq import write_flavor
from edgeclf.graph.int8.ranges import ranges_of
from edgeclf.graph.int8.rounding import Rounding, collect_moments
from edgeclf.graph.layers import float_layers
from edgeclf.graph.onnx_file import save_model, write_onnx
from edgeclf.graph.prepare import prepare
from edgeclf.targets import FLAVORS, opset_of
from edgeclf.training.architecture import ImageClassifier
from edgeclf.training.backbones import create
from edgeclf.training.dry_run.check_export import check_export
from edgeclf_runtime.images.preprocess import Preprocessing

# timm's own miniatures, which have the parts of the large ones.
FAMILIES = (
    "test_vit",
    "test_vit3",
    "test_convnext",
    "test_nfnet",
    "test_efficientnet_ln",
    "test_byobnet",
    "test_resnet",
)
SPEC = Preprocessing(160, 160)


@pytest.fixture(scope="module")
def batches():
    return list(np.random.default_rng(0).integers(0, 256, (4, 1, 160, 160, 3)).astype(np.float32))


@pytest.mark.slow
def test_a_network_that_keeps_positions_is_trained_and_written():
    network = create("convit_tiny", 3)
    check_export(network, Preprocessing(224, 224))
    network.train()(torch.zeros(1, 224, 224, 3)).sum().backward()


CANNOT_BE_WRITTEN = """
from edgeclf.errors import ModelError
from edgeclf.graph.onnx_file import write_onnx
from edgeclf.training.backbones import create
from edgeclf_runtime.images.preprocess import Preprocessing

print("before")
try:
    write_onnx(create("halonet26t", 3), Preprocessing(256, 256), "model.onnx", {})
except ModelError as error:
    print(error)
print("after")
"""


@pytest.mark.slow
def test_a_network_that_cannot_be_written_is_one_sentence_on_stdout(tmp_path):
    # torch's C++ code prints the whole graph, past Python's sys.stdout.
    run = subprocess.run([sys.executable, "-c", CANNOT_BE_WRITTEN], capture_output=True, text=True, cwd=tmp_path)
    before, error, after = run.stdout.splitlines()
    assert (before, after) == ("before", "after")
    assert error.startswith("this backbone cannot be written as ONNX with opset 13")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_flavor_of_a_family_computes_what_fp32_does(family, batches, tmp_path):
    torch.manual_seed(0)
    network = create(family, 4).eval()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        write_onnx(network, SPEC, tmp_path / "fp32.onnx", {})
    assert said.getvalue() == ""
    graph = prepare(tmp_path / "fp32.onnx")
    ranges = ranges_of(collect_histograms(graph, batches), "minmax")
    rounding = Rounding(graph, collect_moments(graph, batches))
    with HostRunner(tmp_path / "fp32.onnx") as runner:
        expected = np.concatenate([runner.infer(batch) for batch in batches])
    with torch.inference_mode():
        torchs = np.concatenate([network(torch.from_numpy(batch)).numpy() for batch in batches])
    assert np.abs(expected - torchs).max() < 1e-3
    full = write_flavor(graph, FLAVORS["int8-tensorrt"], ranges, rounding)
    models = {name: write_flavor(graph, FLAVORS[name], ranges, rounding) for name in ("int8-cpu", "int8-arm")}
    models.update({"int8-tensorrt": full, "int8-fp16": halve_remainder(full, ranges), "fp16": halve(graph, ranges)})
    for name, model in models.items():
        save_model(model, tmp_path / f"{name}.onnx", {}, opset_of(name))
        with HostRunner(tmp_path / f"{name}.onnx", name=name) as runner:
            found = np.concatenate([runner.infer(batch) for batch in batches])
        error = np.abs(found - expected).mean() / np.abs(expected).mean()
        assert error < (0.01 if name == "fp16" else 0.3), name
        if name.startswith("int8"):
            assert "QuantizeLinear" in {node.op_type for node in model.graph.node}, name


def test_of_a_transformer_only_layers_with_weights_are_quantized(batches, tmp_path):
    write_onnx(create("test_vit", 4).eval(), SPEC, tmp_path / "fp32.onnx", {})
    graph = prepare(tmp_path / "fp32.onnx")
    ranges = ranges_of(collect_histograms(graph, batches), "minmax")
    for name in ("int8-cpu", "int8-tensorrt"):
        quantized = write_flavor(graph, FLAVORS[name], ranges, Rounding(graph, {})).graph
        made_by = {output: node.op_type for node in quantized.node for output in node.output}
        readers = {n.op_type for n in quantized.node if "DequantizeLinear" in [made_by.get(i) for i in n.input]}
        assert readers <= {"Conv", "Gemm", "MatMul", "QuantizeLinear", "Reshape", "Shape"}
        assert len(float_layers(quantized)) <= 3


class OneByOne(torch.nn.Module):
    """A backbone that classifies each image by itself, and so only as many as it was traced with."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        return torch.cat([self.backbone(image[None]) for image in images])


@pytest.fixture
def undecoded(monkeypatch, tmp_path):
    """Fail a test in which an image is decoded; no earlier trial is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("edgeclf.training.train.check_for_training", "edgeclf.deployment.make.check"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("images were decoded"))


RANDOM = {"weights": "none", "finetune": "full"}


def test_a_network_that_cannot_be_exported_is_refused_before_images_are_decoded(
    digits, tmp_path, monkeypatch, undecoded
):
    options = edgeclf.TrainOptions(backbone="gernet_l", **RANDOM)
    monkeypatch.setattr(timm.models.byobnet.ByobNet, "forward", lambda self, x: torch.fft.fft2(x).real)
    with pytest.raises(ModelError, match=r"cannot be .*; choose another --backbone"):
        edgeclf.train(digits, tmp_path / "run", options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [edgeclf.train, edgeclf.make])
def test_a_network_that_cannot_be_quantized_is_refused_before_images_are_decoded(
    command, digits, tmp_path, monkeypatch, undecoded
):
    # Infinite between the layers, and finite at the end.
    inner = timm.models.byobnet.ByobNet.forward_features
    monkeypatch.setattr(
        timm.models.byobnet.ByobNet, "forward_features", lambda self, x: torch.atan(inner(self, x) * 1e38 * 1e38)
    )
    with pytest.raises(ModelError, match=r"cannot be quantized to INT8 \(.* produces .*\); choose another --backbone"):
        command(digits, tmp_path / "run.edge", backbone="test_byobnet", **RANDOM)
    assert list(tmp_path.glob("run*")) == []


def test_weights_that_are_not_there_are_missed_before_images_are_decoded(digits, tmp_path, undecoded):
    with pytest.raises(WeightsError, match="timm has none"):
        edgeclf.make(digits, tmp_path / "run.edge", backbone="botnet50ts_256")


def test_a_batch_size_that_was_written_as_a_constant_is_refused():
    config = timm.get_pretrained_cfg("test_resnet")
    network = ImageClassifier(OneByOne(create("test_resnet", 4).backbone), config.mean, config.std)
    with pytest.raises(ModelError, match=r"choose another --backbone"):
        check_export(network.eval(), SPEC)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "flavors"), [("test_vit", ()), ("test_convnext", ("int8-cpu", "int8-tensorrt"))])
def test_a_family_goes_from_photographs_to_a_bundle(family, flavors, digits, tmp_path):
    edgeclf.train(digits, tmp_path / "run", edgeclf.TrainOptions(backbone=family, weights="none", epochs=2))
    edgeclf.export(tmp_path / "run")
    options = edgeclf.QuantizeOptions(flavors=flavors, size=30, max_drop=1.0, method="minmax")
    report = edgeclf.quantize(tmp_path / "run", options)
    assert all(file.comparison.agreement > 0.8 for file in report.files)
    models = {*edgeclf.bundle(tmp_path / "run", tmp_path / "b.edge").models}
    assert models - {"int8-openvino"} == {"fp32", *(flavors or FLAVORS)} - {"int8-openvino"}
    assert onnx.load(tmp_path / "b.edge" / "model.int8-cpu.onnx").graph.node
