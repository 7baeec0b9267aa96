"""INT8 that is right on processors that add two products in 16 bits: asserted on the weights, and seen where one is at hand."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.qdq import write_flavor
from edgeclf.graph.int8.ranges import PAIR_LIMIT, ranges_of
from edgeclf.graph.int8.rounding import Rounding, collect_moments
from edgeclf.targets import FLAVORS

SIZE = 12
KINDS = {
    "dense": ((32, 64, 3, 3), 1),
    "pointwise": ((32, 64, 1, 1), 1),
    "groups": ((32, 16, 3, 3), 4),
    "odd": ((32, 33, 3, 3), 1),
    "pointwise odd": ((32, 33, 1, 1), 1),
    "depthwise": ((64, 1, 3, 3), 64),
    "two outputs a group": ((64, 1, 3, 3), 32),
}


def neighbors(steps, group):
    """Every sum of two weights that a kernel adds up together: of even and odd inputs of a tap, or of taps in a row."""
    rows = steps.astype(int).reshape(*steps.shape[:2], -1).transpose(0, 2, 1)  # outputs, taps, inputs
    if steps.shape[1] == 1 and steps.shape[0] == group:
        return np.zeros(1, int)  # depthwise: in 32 bits
    if steps.shape[1] % 2 and rows.shape[1] > 1:
        rows = rows.reshape(len(rows), 1, -1)
        return np.abs(rows[:, :, :-1] + rows[:, :, 1:])
    return np.abs(rows[:, :, 0 : rows.shape[2] // 2 * 2 : 2] + rows[:, :, 1::2])


def network(weights, group):
    """Positive pixels, a convolution, and a layer that gives the logits."""
    random = np.random.RandomState(5)
    inputs, outputs = weights.shape[1] * group, weights.shape[0]
    constants = {
        "mix": np.abs(random.randn(inputs, 3, 1, 1)),
        "w": weights,
        "b": random.randn(outputs),
        "head": random.randn(4, outputs),
    }
    pad = [weights.shape[2] // 2] * 4
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "mix"], ["x"]),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Conv", ["r", "w", "b"], ["y"], group=group, pads=pad),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("GlobalAveragePool", ["z"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "head"], ["logits"], transB=1),
    ]
    for place, node in enumerate(nodes):
        node.name = str(place)
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def batches():
    random = np.random.RandomState(6)
    return [random.randint(100, 256, (1, SIZE, SIZE, 3)).astype(np.float32) for _ in range(8)]


def quantized(model, name="int8-cpu"):
    ranges = ranges_of(collect_histograms(model, batches()), "minmax")
    return write_flavor(model, FLAVORS[name], ranges, Rounding(model, collect_moments(model, batches())))


def steps_of(model, name="w_quantized"):
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


def logits(model, exact=False):
    options = onnxruntime.SessionOptions()
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": batch})[0] for batch in batches()])


@pytest.fixture(params=KINDS)
def layer(request):
    """A convolution whose neighboring weights are alike and large, and its number of groups."""
    shape, group = KINDS[request.param]
    random = np.random.RandomState(7)
    return 1 + 0.1 * random.randn(*shape), group


def test_no_two_neighbors_of_the_file_for_x86_add_up_to_more_than_16_bits_hold(layer):
    weights, group = layer
    nearest = np.round(weights / weights.max() * 127)
    assert neighbors(nearest, group).max() > PAIR_LIMIT or weights.shape[1] == 1
    assert neighbors(steps_of(quantized(network(*layer))), group).max() <= PAIR_LIMIT


def test_the_kernels_here_compute_what_exact_arithmetic_does(layer):
    model = quantized(network(*layer))
    exact = logits(model, exact=True)
    assert np.abs(logits(model) - exact).max() < 0.02 * np.abs(exact).max()


def test_a_channel_whose_neighbors_differ_in_sign_keeps_all_its_steps():
    weights = np.random.RandomState(8).rand(32, 64, 3, 3) + 0.1
    weights[:, 1::2] *= -1
    assert np.abs(steps_of(quantized(network(weights, 1)))).max() == 127


def test_files_for_other_processors_keep_all_their_steps(layer):
    assert np.abs(steps_of(quantized(network(*layer), "int8-arm"))).max() == 127


@pytest.mark.parametrize(("operator", "transposed"), [("MatMul", False), ("Gemm", False), ("Gemm", True)])
def test_the_weights_of_matrix_products_leave_room_too(operator, transposed):
    model = network(np.random.RandomState(9).randn(32, 64, 1, 1), 1)
    weights = 1 + 0.1 * np.random.RandomState(10).randn(32, 48).astype(np.float32)
    options = {"transB": 1} if transposed else {}
    node = helper.make_node(operator, ["f", "m"], ["g"], name="product", **options)
    model.graph.initializer.append(numpy_helper.from_array(weights.T.copy() if transposed else weights, "m"))
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "head")
    head.CopyFrom(numpy_helper.from_array(np.ones((4, 48), np.float32), "head"))
    model.graph.node.insert(7, node)
    model.graph.node[8].input[0] = "g"
    steps = steps_of(quantized(model), "m_quantized").astype(int)
    steps = steps if transposed else steps.T  # [outputs, inputs]
    assert steps.shape == (48, 32)
    assert PAIR_LIMIT // 2 <= np.abs(steps[:, 0::2] + steps[:, 1::2]).max() <= PAIR_LIMIT


def test_a_real_networks_file_has_no_such_neighbors(run):
    graph = onnx.load(run / "model.int8-cpu.onnx").graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    sums = []
    for node in graph.node:
        source = made_by.get(node.input[1]) if node.op_type == "Conv" else None
        if source is not None and source.op_type == "DequantizeLinear":
            group = next(attribute.i for attribute in node.attribute if attribute.name == "group")
            sums.append(neighbors(stored[source.input[0]], group).max())
    assert len(sums) == 46
    assert 100 < max(sums) <= PAIR_LIMIT
