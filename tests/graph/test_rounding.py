import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeclf.graph.int8.rounding import collect_moments, factors_of, round_weights

GROUPS = {
    "depthwise": (8, 3),
    "dense": (1, 3),
    "pointwise": (1, 1),
    "two inputs a group": (4, 3),
    "pointwise with groups": (2, 1),
}


def convolution(weights, groups, stride=1):
    """A graph of one convolution over NCHW input ``image``."""
    kernel = weights.shape[2]
    node = helper.make_node("Conv", ["image", "w"], ["y"], group=groups, pads=[kernel // 2] * 4, strides=[stride] * 2)
    identity = helper.make_node("Identity", ["y"], ["logits"])
    channels = weights.shape[1] * groups
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["x"]), node, identity],
        "one",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, 24, 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    graph.node[1].input[0] = "x"
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def run(model, batches):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.concatenate([session.run(None, {"image": batch})[0] for batch in batches])


@pytest.fixture(scope="module")
def batches():
    """Smooth feature maps, as those of photographs: neighboring values are alike."""
    import cv2

    random = np.random.RandomState(0)
    maps = [[cv2.GaussianBlur(random.rand(24, 24).astype(np.float32), (0, 0), 3) for _ in range(8)] for _ in range(12)]
    mixed = np.einsum("ij,njhw->nihw", random.rand(8, 8), np.array(maps)).astype(np.float32)
    return [image[None] for image in mixed]


@pytest.mark.parametrize("kind", GROUPS)
def test_the_layers_output_changes_less_than_by_nearest_rounding(kind, batches):
    groups, kernel = GROUPS[kind]
    weights = np.random.RandomState(1).randn(8, 8 // groups, kernel, kernel).astype(np.float32)
    scales = np.abs(weights).reshape(8, -1).max(1) / 15  # coarse steps, so that the difference is plain
    shape = (-1, 1, 1, 1)
    model = convolution(weights, groups)
    rounded = round_weights(weights, scales, factors_of(weights, collect_moments(model, batches)["w"]))
    truth = run(model, batches)
    nearest = np.clip(np.round(weights / scales.reshape(shape)), -127, 127)
    errors = [
        np.square(run(convolution((steps * scales.reshape(shape)).astype(np.float32), groups), batches) - truth).mean()
        for steps in (rounded, nearest)
    ]
    assert errors[0] < 0.5 * errors[1]


def published(weights, scales, moments):
    """GPTQ as its authors write it, for a 1 x 1 convolution: the inverse's Cholesky form, one column after the other."""
    count = len(moments)
    damped = moments + (0.01 * np.trace(moments) / count + 1e-12) * np.eye(count)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    rows, steps = weights.reshape(len(weights), count).astype(float), np.empty((len(weights), count))
    for column in range(count):
        steps[:, column] = np.clip(np.round(rows[:, column] / scales), -127, 127)
        error = (rows[:, column] - steps[:, column] * scales) / upper[column, column]
        rows[:, column:] -= error[:, None] * upper[column, column:]
    return steps.reshape(weights.shape)


def test_the_steps_are_those_of_gptq_as_published(batches):
    random = np.random.RandomState(6)
    weights = random.randn(24, 8 * 20, 1, 1).astype(np.float32)  # more columns than are taken together
    signals = np.concatenate([batch.reshape(8, -1)[:, ::20] for batch in batches] * 20)[: 8 * 20]
    signals = signals + 0.1 * random.randn(*signals.shape)
    scales = np.abs(weights).reshape(24, -1).max(1) / 7
    rounded = round_weights(weights, scales, factors_of(weights, (signals @ signals.T)[None]))
    assert np.array_equal(rounded, published(weights, scales, signals @ signals.T))
    assert (rounded != np.round(weights / scales.reshape(-1, 1, 1, 1))).mean() > 0.02


def test_two_outputs_of_one_channel_are_each_rounded_by_its_signal(batches):
    weights = np.random.RandomState(4).randn(16, 1, 3, 3).astype(np.float32)
    scales = np.full(16, 0.1, np.float32)
    moments = collect_moments(convolution(weights, 8), batches)["w"]
    rounded = round_weights(weights, scales, factors_of(weights, moments))
    for first in (0, 1):
        alone = weights[first::2]
        assert np.array_equal(rounded[first::2], round_weights(alone, scales[first::2], factors_of(alone, moments)))


def test_taps_that_lie_apart_see_what_lies_apart(batches):
    weights = np.random.RandomState(5).randn(8, 8, 3, 3).astype(np.float32)
    model = convolution(weights, 1)
    model.graph.node[1].attribute.append(helper.make_attribute("dilations", [3, 3]))
    next(attribute for attribute in model.graph.node[1].attribute if attribute.name == "pads").ints[:] = [3] * 4
    middle = collect_moments(model, batches)["w"][0]
    near = collect_moments(convolution(weights, 1), batches)["w"][0]
    assert middle.shape == near.shape == (9, 9)
    assert middle[0, 8] / middle[4, 4] < near[0, 8] / near[4, 4]


def test_weights_that_are_whole_steps_stay_as_they_are(batches):
    steps = np.random.RandomState(2).randint(-127, 128, (8, 1, 3, 3))
    weights = (steps * 0.5).astype(np.float32)
    factors = factors_of(weights, collect_moments(convolution(weights, 8, stride=2), batches)["w"])
    assert np.array_equal(round_weights(weights, np.full(8, 0.5, np.float32), factors), steps)


def test_a_channel_without_signal_or_weights_is_no_trouble(batches):
    weights = np.random.RandomState(3).randn(8, 1, 3, 3).astype(np.float32)
    weights[2] = 0
    dark = [batch * (np.arange(8) != 5).reshape(1, 8, 1, 1).astype(np.float32) for batch in batches]
    factors = factors_of(weights, collect_moments(convolution(weights, 8), dark)["w"])
    rounded = round_weights(weights, np.full(8, 0.02, np.float32), factors)
    assert not rounded[2].any()
    assert np.array_equal(rounded[5], np.clip(np.round(weights[5] / 0.02), -127, 127))


def test_moments_of_a_pointwise_layer_are_those_of_its_inputs(batches):
    moments = collect_moments(convolution(np.ones((4, 8, 1, 1), np.float32), 1), batches[:1])["w"]
    chosen = np.linspace(0, 24 * 24 - 1, 128).astype(int)
    pixels = batches[0][0].reshape(8, -1)[:, chosen]
    assert np.allclose(moments, [pixels @ pixels.T], rtol=1e-5)
