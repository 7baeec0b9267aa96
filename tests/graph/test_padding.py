import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from edgeclf.graph.inference import infer_file
from edgeclf.graph.onnx_file import write_onnx
from edgeclf.graph.padding import join_padding
from edgeclf.training.backbones import create
from edgeclf_runtime.images.preprocess import Preprocessing

BELOW = [0, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("size", [64, 65])
def test_a_network_with_tensorflows_padding_is_written_without_operators_for_it(tmp_path, size):
    torch.manual_seed(0)
    network = create("tf_efficientnet_lite0", 3).eval()
    write_onnx(network, Preprocessing(size, size), tmp_path / "m.onnx", {})
    operators = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert operators == {"Constant", "Transpose", "Conv", "Clip", "Add", "GlobalAveragePool", "Flatten", "Gemm"}
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    assert np.allclose(infer_file(tmp_path / "m.onnx", "m.onnx", [image]), expected, atol=1e-4)


def padded(sizes=BELOW, value=0.0, reader="Conv", mode="constant"):
    """A graph with a Pad and what reads it."""
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xz"]
    weight = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    stored = [weight, numpy_helper.from_array(np.array(sizes), "p"), numpy_helper.from_array(np.float32(value), "v")]
    pad = helper.make_node("Pad", ["x", "p", "v"], ["y"], mode=mode)
    nodes = [pad, helper.make_node(reader, ["y", "w"] if reader == "Conv" else ["y"], ["z"])]
    return helper.make_graph(nodes, "g", info[:1], info[1:], stored)


def test_zeros_before_a_convolution_become_its_padding():
    graph = padded()
    join_padding(graph)
    (conv,) = graph.node
    assert (list(conv.input), [list(attribute.ints) for attribute in conv.attribute]) == (["x", "w"], [[0, 0, 1, 1]])


@pytest.mark.parametrize(
    "facts", [{"value": 1.0}, {"reader": "Relu"}, {"mode": "reflect"}, {"sizes": [0, 1, 0, 0, 0, 0, 1, 1]}]
)
def test_any_other_padding_stays(facts):
    graph = padded(**facts)
    join_padding(graph)
    assert [node.op_type for node in graph.node] == ["Pad", facts.get("reader", "Conv")]
