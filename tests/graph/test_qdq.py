"""What each family of backends is given: asserted on the files, since most cannot run here."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.forms import STANDARD, choose
from edgeclf.graph.int8.qdq import write_flavor
from edgeclf.graph.int8.ranges import ranges_of
from edgeclf.graph.int8.rounding import Rounding
from edgeclf.graph.onnx_file import write_onnx
from edgeclf.graph.prepare import prepare
from edgeclf.targets import FLAVORS
from edgeclf_runtime.images.preprocess import Preprocessing

INT8 = [name for name, flavor in FLAVORS.items() if flavor.activations]


@pytest.fixture(scope="module")
def graphs(run):
    return {name: onnx.load(run / f"model.{name}.onnx").graph for name in INT8}


def tensors(graph):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def pairs(graph):
    """Scale and zero point of each activation's QuantizeLinear."""
    stored = tensors(graph)
    nodes = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in stored]
    return [(stored[node.input[1]], stored[node.input[2]]) for node in nodes]


@pytest.mark.parametrize("name", ["int8-cpu", "int8-arm"])
def test_weights_for_cpus_are_stored_as_int8_per_output_channel(graphs, name):
    stored = tensors(graphs[name])
    weights = {name: value for name, value in stored.items() if name.endswith("_quantized") and value.ndim == 4}
    assert len(weights) == 46  # EfficientNet-Lite0's 49 convolutions but the first and those of the first block
    for name, value in weights.items():
        assert value.dtype == np.int8
        assert len(stored[name.replace("_quantized", "_scale")]) == len(value)


def test_weights_are_what_the_quantizer_itself_would_store():
    from onnxruntime.quantization.quant_utils import quantize_onnx_initializer

    model = _resnet_block()
    stored = tensors(write_flavor(model, FLAVORS["int8-cpu"], _ranges(model), Rounding(model, {})).graph)
    floats = {tensor.name: tensor for tensor in model.graph.initializer if f"{tensor.name}_quantized" in stored}
    weights = {name: one for name, one in floats.items() if stored[f"{name}_quantized"].dtype == np.int8}
    assert weights
    for name, one in weights.items():
        zero, scale = stored[f"{name}_zero_point"], stored[f"{name}_scale"]
        found = quantize_onnx_initializer(one, TensorProto.INT8, zero, scale, 0)
        assert np.array_equal(stored[f"{name}_quantized"], numpy_helper.to_array(found))


def test_activations_are_unsigned_for_x86_and_signed_for_arm(graphs):
    assert {zero.dtype for _, zero in pairs(graphs["int8-cpu"])} == {np.dtype("uint8")}
    assert {zero.dtype for _, zero in pairs(graphs["int8-arm"])} == {np.dtype("int8")}


def test_the_tensorrt_file_has_no_zero_point_but_0(graphs):
    stored = tensors(graphs["int8-tensorrt"])
    nodes = [node for node in graphs["int8-tensorrt"].node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(nodes) > 100
    for node in nodes:
        assert stored[node.input[2]].dtype == np.int8
        assert not stored[node.input[2]].any()


def test_the_tensorrt_file_dequantizes_no_int32(graphs):
    graph = graphs["int8-tensorrt"]
    assert not [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT32]
    made_by = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            assert made_by[node.input[0]].op_type == "QuantizeLinear"


def test_the_tensorrt_files_weights_are_whole_steps_of_a_scale_per_channel(graphs):
    stored = tensors(graphs["int8-tensorrt"])
    nodes = [
        node for node in graphs["int8-tensorrt"].node if node.op_type == "QuantizeLinear" and node.input[0] in stored
    ]
    assert len(nodes) == 30  # 32 pointwise convolutions but those from and to 16 channels
    for node in nodes:
        weights, scales = stored[node.input[0]], stored[node.input[1]]
        assert scales.shape == weights.shape[:1]
        steps = weights / scales.reshape(-1, 1, 1, 1)
        assert np.abs(steps - np.round(steps)).max() < 1e-3
        assert np.abs(steps).max() < 127.5


@pytest.mark.parametrize("name", INT8)
def test_pixels_first_layer_first_block_and_head_stay_float(graphs, name):
    made_by = {output: node for node in graphs[name].node for output in node.output}
    parts = ("normalize", "conv_stem", "blocks.0.0")
    first = [node for node in graphs[name].node if any(part in node.name for part in parts)]
    assert len([node for node in first if node.op_type == "Conv"]) == 4
    for node in [*first, *(node for node in graphs[name].node if node.op_type == "Gemm")]:
        assert "DequantizeLinear" not in [made_by[given].op_type for given in node.input[1:] if given in made_by]


def test_depthwise_convolutions_stay_float_for_tensorrt_alone(graphs):
    for name, expected in (("int8-tensorrt", set()), ("int8-arm", {"DequantizeLinear"})):
        made_by = {output: node.op_type for node in graphs[name].node for output in node.output}
        deep = [node for node in graphs[name].node if node.op_type == "Conv" and "blocks.5" in node.name]
        depthwise = [node for node in deep if "conv_dw" in node.name]
        assert len(depthwise) == 4
        assert {made_by[node.input[0]] for node in depthwise} & {"DequantizeLinear"} == expected


@pytest.mark.parametrize("name", INT8)
def test_features_are_pooled_in_float(graphs, name):
    made_by = {output: node.op_type for node in graphs[name].node for output in node.output}
    gemm = next(node for node in graphs[name].node if node.op_type == "Gemm")
    assert made_by[gemm.input[0]] == "Flatten"
    flatten = next(node for node in graphs[name].node if node.op_type == "Flatten")
    assert made_by[flatten.input[0]] == "GlobalAveragePool"


@pytest.mark.parametrize("name", INT8)
def test_the_file_holds_nothing_that_nothing_reads(graphs, name):
    graph = graphs[name]
    used = {name for node in graph.node for name in node.input} | {"logits", "features"}
    made = [tensor.name for tensor in graph.initializer] + [name for node in graph.node for name in node.output]
    assert set(made) <= used


def test_each_add_of_the_tensorrt_file_takes_a_quantized_shortcut_and_a_float_branch(graphs):
    graph = graphs["int8-tensorrt"]
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    adds = [sorted(made_by[name] for name in node.input) for node in graph.node if node.op_type == "Add"]
    assert adds == [["Conv", "DequantizeLinear"]] * 9


def test_a_shortcut_with_a_convolution_of_its_own_is_quantized_behind_it():
    model = _resnet_block()
    graph = write_flavor(model, FLAVORS["int8-tensorrt"], _ranges(model), Rounding(model, {})).graph
    made_by = {output: node for node in graph.node for output in node.output}
    add = next(node for node in graph.node if node.op_type == "Add")
    assert made_by[add.input[0]].name == "main"
    dequantize = made_by[add.input[1]]
    assert made_by[made_by[dequantize.input[0]].input[0]].name == "shortcut"


def _resnet_block():
    """Two convolutions of 48 channels whose results are added."""
    weights = np.random.RandomState(0).randn(48, 48, 1, 1).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["image"], ["x"], "layout", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "a"], ["y"], "main"),
        helper.make_node("Conv", ["x", "b"], ["z"], "shortcut"),
        helper.make_node("Add", ["y", "z"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["logits"], "relu"),
    ]
    shape = [1, 48, 8, 8]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 48])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "a"), numpy_helper.from_array(weights * 2, "b")],
        value_info=[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y", "z", "sum")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def _ranges(model):
    random = np.random.RandomState(1)
    batches = [random.rand(1, 8, 8, 48).astype(np.float32) for _ in range(4)]
    return ranges_of(collect_histograms(model, batches), "minmax")


class Attention(torch.nn.Module):
    """Attention over patches without the operator Softmax, layer norm or GELU."""

    def __init__(self, softmax):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 48, 8, 8)
        self.parts = torch.nn.Linear(48, 3 * 48)
        self.head = torch.nn.Linear(48, 3)
        self.softmax = softmax

    def forward(self, image):
        tokens = self.patches(image.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        query, key, value = self.parts(tokens).chunk(3, -1)
        return self.head((self.softmax(query @ key.transpose(1, 2)) @ value + tokens).mean(1))


def written(scores):
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return exponentials / exponentials.sum(-1, keepdim=True)


@pytest.mark.parametrize("softmax", [written, torch.relu, lambda scores: scores / 7])
@pytest.mark.parametrize("name", ["int8-cpu", "int8-tensorrt"])
def test_attention_is_recognized_without_its_operators(tmp_path, softmax, name):
    write_onnx(Attention(softmax).eval(), Preprocessing(32, 32), tmp_path / "model.onnx", {})
    graph = prepare(tmp_path / "model.onnx")
    assert set(choose(graph, FLAVORS[name], STANDARD).operators) == {"Conv", "Gemm", "MatMul"} & {
        node.op_type for node in graph.graph.node
    }
