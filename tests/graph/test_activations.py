import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeclf.errors import ModelError, OptionError
from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.ranges import ranges_of
from edgeclf.graph.prepare import prepare


def graph(divisor=1.0):
    """Convolution, ReLU, division by a constant."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["y"], "conv"),
        helper.make_node("Relu", ["y"], ["z"], "relu"),
        helper.make_node("Div", ["z", "by"], ["logits"], "divide"),
    ]
    weights = {"w": np.full((1, 1, 1, 1), -2, np.float32), "by": np.array(divisor, np.float32)}
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def image(*values):
    return np.array(values, np.float32).reshape(1, 1, 2, 2)


def test_each_activation_has_the_range_of_all_images():
    found = ranges_of(collect_histograms(graph(), [image(1, 2, 3, 4), image(-1, 0, 0, -5)]), "minmax")
    assert found["image"] == (-5, 4)
    assert found["z"] == found["logits"] == (0, 10)


def test_what_an_activation_function_alone_reads_has_the_range_of_its_output():
    found = ranges_of(collect_histograms(graph(), [image(1, 2, 3, -4)]), "minmax")
    assert found["y"] == found["z"]


@pytest.mark.parametrize(("pixel", "value"), [(1, "nan"), (-1, "inf")])
def test_a_layer_that_gives_no_finite_numbers_is_named_with_the_image(pixel, value):
    with pytest.raises(
        ModelError, match=rf"the layer divide \(Div\) produces values from {value} .* on calibration image 1"
    ):
        collect_histograms(graph(divisor=0.0), [image(pixel, pixel, pixel, pixel)])


def test_a_generator_is_refused_since_it_can_be_read_once():
    with pytest.raises(OptionError, match="are a generator, which can be read only once"):
        collect_histograms(graph(), (image(1, 2, 3, 4) for _ in range(3)))


def test_the_ranges_of_a_real_model_name_every_activation(run):
    model = prepare(run / "model.fp32.onnx")
    random = np.random.RandomState(0)
    batches = [random.randint(0, 256, (1, 64, 64, 3)).astype(np.float32) for _ in range(2)]
    made = {name for node in model.graph.node if node.op_type != "Constant" for name in node.output}
    assert set(collect_histograms(model, batches)) == {"image", *made}
    assert onnx.load(run / "model.fp32.onnx").graph.output[0].name in made
