"""Making a plain classifier of another program's graph, and the operators of newer opsets."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeclf.errors import ModelError
from edgeclf.graph.foreign_model import ImageShape, image_input, infer_original, layout_of, make_core
from edgeclf.graph.foreign_torch import export_module
from edgeclf.graph.inference import infer_graph
from edgeclf_runtime.classify.decision import softmax
from tests.support.foreign import LABELS, SIZE, color_model, one_node

SHAPE = ImageShape("NCHW", SIZE, SIZE)


def changed(path, change, **form):
    model = onnx.load(color_model(path, **form))
    change(model)
    return model


def same(model, count=4):
    """Return whether the plain classifier gives the original's scores, one image at a time and together."""
    images = [image[None] for image in np.random.default_rng(1).normal(size=(3, 3, SIZE, SIZE)).astype(np.float32)]
    expected = infer_original(model, count, images)
    core = make_core(model, SHAPE, count)
    assert core.dynamic
    for batches in (images, [np.concatenate(images)]):
        assert np.abs(infer_graph(core.model, "fp32", batches).reshape(3, -1) - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "stored", "opset", "attributes"),
    [
        ("HardSwish", (), 14, {}),
        ("LayerNormalization", (np.full(SIZE, 2, np.float32), np.full(SIZE, 0.5, np.float32)), 17, {}),
        ("LayerNormalization", (np.full(SIZE, 2, np.float32),), 17, {"epsilon": 0.1}),
        ("Mish", (), 18, {}),
        ("Gelu", (), 20, {}),
        ("Gelu", (), 20, {"approximate": "tanh"}),
        ("ReduceMax", (np.array([2]),), 18, {"keepdims": 1}),
        ("ReduceMean", (np.array([2, 3]),), 20, {"keepdims": 1}),
        ("ReduceMean", (np.array([3]),), 18, {"keepdims": 1, "noop_with_empty_axes": 0}),
        ("Reshape", (np.array([1, 4, SIZE // 2, -1]),), 19, {"allowzero": 1}),
        ("Reshape", (np.array([0, 4, -1, SIZE * 2]),), 14, {}),
        ("Split", (), 18, {"num_outputs": 2, "axis": 2, "outputs": 2}),
        ("AveragePool", (), 19, {"kernel_shape": [2, 2], "dilations": [1, 1]}),
        ("Pad", (np.array([0, 0, 1, 1, 0, 0, 1, 1]),), 19, {}),
        ("BatchNormalization", tuple(np.full(4, v, np.float32) for v in (1, 0.5, 0.1, 2)), 15, {"training_mode": 0}),
        ("Clip", (np.array(0, np.float32), np.array(6, np.float32)), 21, {}),
        ("LeakyRelu", (), 16, {"alpha": 0.2}),
        ("Relu", (), 21, {}),
    ],
    ids=str,
)
def test_operators_of_newer_opsets_are_rewritten(kind, stored, opset, attributes):
    same(one_node(kind, ["N", 3, SIZE, SIZE], stored, opset, **attributes))


@pytest.mark.parametrize("opset", [8, 9, 11, 12])
def test_operators_of_older_opsets_are_raised(tmp_path, opset):
    same(onnx.load(color_model(tmp_path / "m.onnx", opset=opset)), 2)


@pytest.mark.parametrize(
    ("kind", "stored", "opset", "attributes"),
    [
        ("GridSample", (np.zeros((1, 2, 2, 2), np.float32),), 20, {}),
        (
            "Resize",
            (np.array([], np.float32), np.array([1, 1, 0.5, 0.5], np.float32)),
            18,
            {"antialias": 1, "mode": "linear"},
        ),
    ],
)
def test_operators_that_cannot_be_rewritten_are_named(kind, stored, opset, attributes):
    model = one_node(kind, [1, 3, SIZE, SIZE], stored, opset, **attributes)
    with pytest.raises(ModelError, match=rf"operators {kind} cannot be written .* opset_version=13, dynamo=False"):
        make_core(model, SHAPE, 4)


def test_an_operator_that_onnxruntime_expands_needs_no_rewriting():
    ones = np.ones(2, np.float32)
    same(one_node("GroupNormalization", ["N", 3, SIZE, SIZE], (ones, ones), 18, num_groups=2))


def test_a_batch_that_is_written_into_a_reshape_becomes_dynamic(tmp_path):
    def fix(model):
        node = next(node for node in model.graph.node if node.op_type == "Flatten")
        node.op_type = "Reshape"
        node.input.append("size")
        del node.attribute[:]
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, 32]), "size"))

    same(changed(tmp_path / "m.onnx", fix, batch=1), 2)


def test_a_graph_for_one_image_only_stays_one(tmp_path):
    def fix(model):
        token = numpy_helper.from_array(np.full((1, 32, 1, 1), 0.5, np.float32), "token")
        model.graph.initializer.append(token)
        index = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Flatten")
        model.graph.node.insert(index, helper.make_node("Concat", ["z", "token"], ["more"], axis=2))
        model.graph.node[index + 1].op_type = "ReduceMean"
        del model.graph.node[index + 1].attribute[:]
        model.graph.node[index + 1].attribute.extend(
            [helper.make_attribute("axes", [2, 3]), helper.make_attribute("keepdims", 0)]
        )
        model.graph.node[index + 1].input[0] = "more"

    model = changed(tmp_path / "m.onnx", fix, batch=1)
    core = make_core(model, SHAPE, 2)
    assert not core.dynamic
    images = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    assert np.abs(infer_graph(core.model, "fp32", [images]) - infer_original(model, 2, [images])).max() < 1e-5


def second_output(model):
    model.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 32]))


def test_of_several_outputs_the_one_with_a_score_for_each_label_is_taken(tmp_path):
    model = changed(tmp_path / "m.onnx", second_output)
    same(model, 2)
    with pytest.raises(ModelError, match=r"the outputs out \(2\), f \(32\); one with 5 scores was expected.*--tensor"):
        make_core(model, SHAPE, 5)
    with pytest.raises(ModelError, match="has no output 'g'"):
        make_core(model, SHAPE, 2, "g")


@pytest.mark.parametrize(
    ("operator", "kind", "shape"),
    [
        (helper.make_node("Cast", ["out"], ["other"], to=TensorProto.FLOAT16), "FLOAT16", ["N", 2]),
        (helper.make_node("ArgMax", ["out"], ["other"], axis=1, keepdims=0), "INT64", ["N"]),
    ],
)
def test_an_output_that_is_not_of_float_scores_is_refused_by_name(tmp_path, operator, kind, shape):
    def end(model):
        model.graph.node.append(operator)
        kept = helper.make_tensor_value_info("other", getattr(TensorProto, kind), shape)
        model.graph.output[0].CopyFrom(kept)

    with pytest.raises(ModelError, match=f"the model's output other is {kind}; float32 scores, one for each label"):
        make_core(changed(tmp_path / "m.onnx", end), SHAPE, 2)


def halve(model):
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))


def end_with(kind, domain=""):
    def change(model):
        model.graph.node[-1].op_type, model.graph.node[-1].domain = kind, domain
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (end_with("Sigmoid"), "ends with Sigmoid, a yes or no for each label"),
        (end_with("Gelu", "com.microsoft"), r"operators outside of ONNX \(com.microsoft.Gelu\)"),
        (halve, "already quantized or FP16"),
        (end_with("DequantizeLinear"), "already quantized or FP16"),
    ],
)
def test_graphs_that_no_device_should_run_are_refused(tmp_path, change, said):
    with pytest.raises(ModelError, match=said):
        make_core(changed(tmp_path / "m.onnx", change), SHAPE, len(LABELS))


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        (TensorProto.FLOAT16, ["N", 3, 8, 8], "the model's input is FLOAT16; float32 was expected"),
        (TensorProto.UINT8, ["N", 8, 8, 3], "the model's input is UINT8"),
        (TensorProto.FLOAT, ["N", 1, 8, 8], r"has the shape \? x 1 x 8 x 8; batch x 3 x height"),
        (TensorProto.FLOAT, ["N", 3, 4, 8, 8], "has the shape"),
        (TensorProto.FLOAT, ["N", 10], "has the shape"),
    ],
)
def test_inputs_that_are_no_images_are_refused(kind, shape, said):
    graph = helper.make_graph([], "x", [helper.make_tensor_value_info("x", kind, shape)], [])
    with pytest.raises(ModelError, match=said):
        image_input(helper.make_model(graph))


@pytest.mark.parametrize(
    ("dims", "layout"),
    [
        ([None, 3, 8, 8], "NCHW"),
        ([1, 8, 8, 3], "NHWC"),
        ([1, None, 8, 8], "NCHW"),
        ([None, None, None, 3], "NHWC"),
        ([None, 3, None, None], "NCHW"),
        ([None, 3, 8, 3], ""),
        ([None, None, None, None], ""),
    ],
)
def test_a_shape_tells_its_layout_if_it_can(dims, layout):
    assert layout_of(dims) == layout


class Attention(torch.nn.Module):
    """Attention among the pixels of an image, by torch's fused operator."""

    def forward(self, images):
        tokens = images.flatten(2).transpose(1, 2)
        return torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(1)


def test_a_module_with_fused_attention_is_exported():
    model = export_module(Attention(), (1, 3, 4, 4), "Attention")
    image = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    expected = Attention()(torch.from_numpy(image)).numpy()
    assert np.abs(infer_original(model, 3, [image]) - expected).max() < 1e-5


class Ending(torch.nn.Module):
    """A classifier whose softmax is written by hand."""

    def __init__(self, end):
        super().__init__()
        self.layer, self.end = torch.nn.Conv2d(3, 4, 3, 2), end

    def forward(self, pixels):
        return self.end(self.layer(pixels).mean((2, 3)))


def of_exponentials(values):
    exponentials = values.exp()
    return exponentials / exponentials.sum(-1, keepdim=True)


def of_differences(values):
    return of_exponentials(values - values.amax(1, keepdim=True))


def two_of_one(values):
    first = values[:, :1].sigmoid()
    return torch.cat([first, 1 - first], 1)


@pytest.mark.parametrize(
    ("end", "removed", "labels"),
    [
        (of_exponentials, "Softmax", 4),
        (of_differences, "Softmax", 4),
        (two_of_one, "Softmax", 2),
        (lambda values: of_differences(values).log(), "LogSoftmax", 4),
        (lambda values: values.softmax(1).log(), "LogSoftmax", 4),
        (lambda values: values - values.logsumexp(1, keepdim=True), "LogSoftmax", 4),
        (lambda values: values.sigmoid() * 2, "", 4),
        (lambda values: values, "", 4),
    ],
)
def test_a_softmax_at_the_end_is_removed_however_it_is_written(end, removed, labels):
    torch.manual_seed(0)
    module = Ending(end).eval()
    core = make_core(export_module(module, (1, 3, SIZE, SIZE), "it"), SHAPE, labels)
    assert (core.removed, core.dynamic) == (removed, True)
    assert not {"Exp", "Softmax", "ReduceLogSumExp"} & {node.op_type for node in core.model.graph.node}
    images = np.random.default_rng(1).normal(size=(5, 3, SIZE, SIZE)).astype(np.float32)
    found = infer_graph(core.model, "fp32", [images])
    with torch.inference_mode():
        expected = module(torch.from_numpy(images)).numpy()
    found = softmax(found) if removed else found
    assert np.abs(found - (np.exp(expected) if removed == "LogSoftmax" else expected)).max() < 1e-5
