"""Backbones of three families become engines with TensorRT 11.4's own parser and compiler, as FP32, FP16 and Q/DQ."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from edgeclf.data.pixels import load_batches
from edgeclf.graph.features import with_features, with_range
from edgeclf.graph.fp16 import halve, halve_remainder
from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.qdq import write_flavor
from edgeclf.graph.int8.ranges import ranges_of
from edgeclf.graph.int8.rounding import Rounding
from edgeclf.graph.onnx_file import save_model, write_onnx
from edgeclf.graph.prepare import prepare
from edgeclf.quantization.flavors.calibration_cache import format_cache, parse_cache
from edgeclf.targets import FLAVORS, FP16_QDQ_OPSET
from edgeclf.training.backbones import create
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.trt.parent import build_engine
from tests.support.engine_requests import Told, request
from tests.support.tensorrt_rig import BUILDS, rig

SPEC = Preprocessing(64, 64)
BACKBONES = ("tf_efficientnet_lite0", "resnet18", "mobilenetv3_large_100")
TENSORS = """
import sys, tensorrt as trt
builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
network = builder.create_network(0)
assert trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR)).parse(open(sys.argv[1], "rb").read())
for i in range(network.num_layers):
    layer = network.get_layer(i)
    for j in range(layer.num_outputs):
        print(layer.type.name, layer.get_output(j).name, sep="\\t")
"""


@pytest.fixture(scope="module", params=BACKBONES)
def files(request, digits, tmp_path_factory):
    """A backbone, as it starts its training, in the files that a bundle for TensorRT holds."""
    folder = tmp_path_factory.mktemp(request.param)
    float_file = folder / "model.fp32.onnx"
    write_onnx(create(request.param, 3).eval(), SPEC, float_file, {}, with_features)
    graph = prepare(float_file)
    batches = list(load_batches(sorted(digits.rglob("00*.png"))[:4], SPEC, 1, "calibrating"))
    ranges = ranges_of(collect_histograms(graph, batches), "minmax")
    save_model(with_features(halve(graph, ranges)), folder / "model.fp16.onnx", {})
    quantized = write_flavor(graph, FLAVORS["int8-tensorrt"], ranges, Rounding(graph, {}))
    save_model(with_features(quantized), folder / "model.int8-tensorrt.onnx", {})
    half = with_features(halve_remainder(quantized, ranges))
    save_model(half, folder / "model.int8-fp16.onnx", {}, FP16_QDQ_OPSET)
    (folder / "calibration.cache").write_text(format_cache(with_range(graph, ranges)))
    return folder


def build(folder, name):
    precision = name.partition("-")[0]
    return build_engine(request(folder / f"model.{name}.onnx", folder / f"{name}.plan", precision=precision), Told())


@pytest.mark.slow
def test_each_precision_is_built_and_shows_in_the_size(tensorrt, files):
    size = {name: build(files, name)["bytes"] for name in ("fp32", "fp16", "int8-tensorrt", "int8-fp16")}
    assert size["fp16"] < 0.6 * size["fp32"]
    assert size["int8-tensorrt"] < 0.75 * size["fp32"]
    assert size["int8-fp16"] < 0.75 * size["fp32"]
    quantized = [node.op_type for node in onnx.load(files / "model.int8-tensorrt.onnx").graph.node]
    assert quantized.count("QuantizeLinear") > 10


def test_the_calibration_cache_names_every_tensor_that_a_layer_of_the_network_gives(files):
    out = subprocess.run(
        [sys.executable, "-c", TENSORS, files / "model.fp32.onnx"],
        env={"PYTHONPATH": rig(BUILDS), "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    given = [line.split("\t") for line in out.splitlines()]
    known = set(parse_cache(Path(files / "calibration.cache").read_text()))
    # What TensorRT's parser adds for the shapes of the last, fully connected layer has no name in the file.
    missing = [name for kind, name in given if kind != "CONSTANT" and name not in known]
    assert len(given) > 40
    assert [name for name in missing if not re.match(r"ONNXTRT_|.*(Gemm|MatMul)_output$", name)] == []
