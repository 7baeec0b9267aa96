"""Small ONNX models with edgeclf's input and output, and random weights."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgeclf.targets import IR_VERSIONS, OPSET

SIDE, CHANNELS, LABELS = 8, 40, 2


def conv_graph(gated=False, extra=0):
    """Pixels to logits by the normalization, a first layer, one of many channels, and a head; float32 [1, 8, 8, 3] to [1, 2].

    gated: the second layer's output is multiplied with its own sigmoid, as swish does.  extra: number of further activations.
    """
    random = np.random.default_rng(0)
    shapes = {
        "normalize": (3, 1, 1, 1),
        "first": (CHANNELS, 3, 3, 3),
        "second": (CHANNELS, CHANNELS, 1, 1),
        "head": (LABELS, CHANNELS),
    }
    weights = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), f"{name}.weight")
        for name, shape in shapes.items()
    ]
    biases = [numpy_helper.from_array(np.zeros(shape[0], np.float32), f"{name}.bias") for name, shape in shapes.items()]

    def layer(operator, name, source, **attributes):
        return helper.make_node(operator, [source, f"{name}.weight", f"{name}.bias"], [name], name, **attributes)

    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], "layout", perm=[0, 3, 1, 2]),
        layer("Conv", "normalize", "planes", kernel_shape=[1, 1], group=3),
        layer("Conv", "first", "normalize", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["first"], ["active"], "relu"),
        layer("Conv", "second", "active", kernel_shape=[1, 1]),
    ]
    last = "second"
    if gated:
        nodes += [helper.make_node("Sigmoid", ["second"], ["gate"], "sigmoid")]
        nodes += [helper.make_node("Mul", ["second", "gate"], ["gated"], "mul")]
        last = "gated"
    for number in range(extra):
        nodes.append(helper.make_node("Relu", [last], [f"extra{number}"], f"extra{number}"))
        last = f"extra{number}"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["features"], "flatten"),
        helper.make_node("Gemm", ["features", "head.weight", "head.bias"], ["logits"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, LABELS])],
        [*weights, *biases],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSIONS[OPSET]))


def gated_graph(extra=0):
    """Return conv_graph() with a gate."""
    return conv_graph(gated=True, extra=extra)
