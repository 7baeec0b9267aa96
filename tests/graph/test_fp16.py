import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeclf.graph.fp16 import halve
from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.ranges import ranges_of


@pytest.fixture(scope="module")
def graph(run):
    return onnx.load(run / "model.fp16.onnx").graph


def test_no_float32_is_left_but_input_and_output(graph):
    constants = [a.t for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
    assert TensorProto.FLOAT not in {tensor.data_type for tensor in (*graph.initializer, *constants)}
    casts = [(node.input[0], node.output[0]) for node in graph.node if node.op_type == "Cast"]
    assert casts == [("image", "image_fp16"), ("logits_fp16", "logits"), ("/edgeclf/features_fp16", "features")]


def test_the_file_is_half_of_fp32(run):
    sizes = [(run / f"model.{name}.onnx").stat().st_size for name in ("fp16", "fp32")]
    assert sizes[0] < 0.55 * sizes[1]


def model(bound=3.4028234663852886e38):
    """image, float to float cast, Clip from 0 to a bound."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["same"], to=TensorProto.FLOAT),
            helper.make_node("Clip", ["same", "low", "high"], ["clipped"]),
            helper.make_node("Identity", ["clipped"], ["logits"]),
        ],
        "clip",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("low", 0), ("high", bound))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def ranges(largest):
    return ranges_of(collect_histograms(model(), [np.array([[-1, largest]], np.float32)]), "minmax")


def test_casts_to_float32_and_bounds_that_fp16_does_not_know_are_no_trouble():
    halved = halve(model(), ranges(255))
    session = onnxruntime.InferenceSession(halved.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.array([[-1, 255]], np.float32)})[0].tolist() == [[0, 255]]
    assert halved.graph.node[1].attribute[0].i == TensorProto.FLOAT16


def computed(nodes, constants, image, ranges=None):
    """Return what the FP16 form of some nodes, from image to logits, computes."""
    values = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, len(image)]) for name in ("image", "logits")]
    graph = helper.make_graph(nodes, "nodes", ends[:1], ends[1:], values)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    halved = halve(whole, ranges or {})
    onnx.checker.check_model(halved)
    session = onnxruntime.InferenceSession(halved.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": np.array([image], np.float32)})[0][0]


def test_activations_beyond_fp16_stay_float32():
    nodes = [
        helper.make_node("Mul", ["image", "thousand"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["same"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["same", "thousandth"], ["logits"]),
    ]
    constants = {"thousand": np.float32(1000), "thousandth": np.float32(0.001)}
    ranges = {"wide": (0.0, 250000.0), "same": (0.0, 250000.0)}
    assert computed(nodes, constants, [250.0, 3.0], ranges) == pytest.approx([250, 3], rel=1e-3)


def test_a_variance_and_a_tiny_epsilon_stay_float32():
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1]),
        helper.make_node("Sub", ["image", "mean"], ["centered"]),
        helper.make_node("Pow", ["centered", "two"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["variance"], axes=[1]),
        helper.make_node("Add", ["variance", "epsilon"], ["above"]),
        helper.make_node("Sqrt", ["above"], ["deviation"]),
        helper.make_node("Div", ["centered", "deviation"], ["logits"]),
    ]
    constants = {"two": np.float32(2), "epsilon": np.float32(1e-12)}
    image = [0.0, 800.0]  # the squares are 160000
    assert computed(nodes, constants, image) == pytest.approx([-1, 1], rel=1e-3)
    assert computed(nodes, constants, [1e-3, 2e-3]) == pytest.approx([-1, 1], rel=1e-2)


def test_operators_that_are_not_defined_for_fp16_stay_float32():
    nodes = [helper.make_node("CumSum", ["image", "axis"], ["logits"])]
    assert computed(nodes, {"axis": np.int64(1)}, [1.0, 2.0, 3.0]).tolist() == [1, 3, 6]


@pytest.fixture(scope="module")
def half(run):
    return onnx.load(run / "model.int8-fp16.onnx")


def test_the_float_part_of_a_qdq_file_is_fp16_and_its_scales_are(half):
    floats = {tensor.name for tensor in half.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    assert floats == set()
    pairs = [node for node in half.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    scales = {node.input[1] for node in pairs}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in half.graph.initializer}
    assert len(pairs) > 100
    assert {stored[name].dtype for name in scales} == {np.dtype("float16")}


def test_no_scale_of_fp16_is_0_or_cuts_a_weight_off(half, run):
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in half.graph.initializer}
    full = {t.name: numpy_helper.to_array(t) for t in onnx.load(run / "model.int8-tensorrt.onnx").graph.initializer}
    scales = [name for name in stored if name.endswith("_scale")]
    assert min(stored[name].min() for name in scales) > 0
    for name in scales:
        assert (stored[name] >= full[name]).all()
