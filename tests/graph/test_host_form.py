import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeclf.data.pixels import load_batches
from edgeclf.graph import host_form
from edgeclf.graph.fp16 import halve
from edgeclf.graph.host_form import HostRunner, imitates, shift, widen
from edgeclf.training.runs import read_run


def literal(model):
    """Return a session that computes each operator as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def batches(run):
    opened = read_run(run)
    return list(load_batches([sample.path for sample in opened.dataset().split("val")], opened.preprocessing, 1, ""))


def test_unsigned_activations_give_the_same_bits(run, batches):
    model = onnx.load(run / "model.int8-arm.onnx")
    before, after = literal(model), literal(shift(model))
    for batch in batches:
        assert (before.run(None, {"image": batch})[0] == after.run(None, {"image": batch})[0]).all()


def test_all_signed_activations_become_unsigned_and_weights_stay(run):
    graph = shift(onnx.load(run / "model.int8-arm.onnx")).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kinds = {node.input[0] in stored: set() for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            kinds[node.input[0] in stored].add(stored[node.input[2]].data_type)
    assert kinds[False] == {TensorProto.UINT8}
    assert TensorProto.UINT8 not in kinds[True]


def halved_layers(weights):
    """Return two layers in FP16, with a clip between them and a sum at the end."""
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "c"], ["logits"]),
    ]
    image, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in ("image", "logits")
    )
    values = {"low": np.float32(0), "high": np.float32(6), "first": weights[0], "second": weights[1]}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "layers", [image], [logits], tensors)
    return halve(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), {})


def test_each_layers_result_is_rounded_to_fp16():
    random = np.random.default_rng(0)
    image, *weights = (random.normal(size=shape).astype(np.float32) for shape in [(1, 4, 8, 8)] + 2 * [(4, 4, 3, 3)])
    found = literal(widen(halved_layers(weights))).run(None, {"image": image})[0]

    def conv(values, weight):
        return torch.nn.functional.conv2d(values, torch.from_numpy(weight).half().float(), padding=1).half().float()

    clipped = conv(torch.from_numpy(image).half().float(), weights[0]).clip(0, 6)
    expected = (clipped + conv(clipped, weights[1])).half().float().numpy()
    assert (found == expected).mean() > 0.99  # a sum in another order may round to the other side
    assert np.abs(found - expected).max() < 0.05


# ONNX Runtime's integer kernels round sums in another way; TensorRT's files are computed in float.
@pytest.mark.parametrize(("name", "share"), [("int8-arm", 0.1), ("int8-tensorrt", 0.03), ("int8-fp16", 0.15)])
def test_a_devices_model_gives_the_labels_that_its_operators_give_one_by_one(run, batches, name, share):
    session = literal(onnx.load(run / f"model.{name}.onnx"))
    differences = []
    with HostRunner(run / f"model.{name}.onnx", name=name) as runner:
        for batch in batches:
            found, expected = runner.infer(batch)[0], session.run(None, {"image": batch})[0][0]
            assert found.argmax() == expected.argmax()
            differences.append(np.abs(found - expected).max() / np.ptp(expected))
    assert np.mean(differences) < share


def test_the_kernels_that_are_chosen_give_the_bits_of_those_whose_sums_cannot_overflow(run, batches, monkeypatch):
    with HostRunner(run / "model.int8-arm.onnx", name="int8-arm") as runner:
        chosen = [runner.infer(batch) for batch in batches]
    monkeypatch.setattr(host_form, "sums_overflow", lambda: True)
    with HostRunner(run / "model.int8-arm.onnx", name="int8-arm") as runner:
        assert all((runner.infer(batch) == found).all() for batch, found in zip(batches, chosen, strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fp32", False), ("int8-cpu", False), ("int8-openvino", True), ("int8-arm", True), ("fp16", True)],
)
def test_a_file_for_another_backend_is_imitated_and_its_time_is_not_taken(name, expected):
    assert imitates(name) == expected
