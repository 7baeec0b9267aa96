"""An ONNX file prepared for quantization, and what tells two of them apart."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeclf.graph.onnx_file import graph_sha256, save_model
from edgeclf.graph.prepare import prepare
from edgeclf.targets import IR_VERSIONS, OPSET
from tests.support.graphs import conv_graph


def sliced(path, starts, ends, axes, steps=None, size=6):
    """A model that slices a tensor of [N, 6, 8, 8] and applies Relu to it."""
    numbers = {"starts": starts, "ends": ends, "axes": axes, **({"steps": steps} if steps else {})}
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["image"], ["before"]),
            helper.make_node("Slice", ["before", *numbers], ["part"]),
            helper.make_node("Relu", ["part"], ["logits"]),
        ],
        "sliced",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", size, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSIONS[OPSET]), path)
    return path


def operators(path):
    return [node.op_type for node in prepare(path).graph.node]


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [([0], [6], [1], [1]), ([0], [9], [1], None), ([0, 0], [6, 1 << 40], [1, -1], None)],
)
def test_a_slice_that_takes_everything_is_removed(tmp_path, starts, ends, axes, steps):
    assert operators(sliced(tmp_path / "a.onnx", starts, ends, axes, steps)) == ["Relu", "Relu"]


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([0], [5], [1], None),
        ([1], [6], [1], None),
        ([0], [6], [1], [2]),
        ([0], [100], [0], None),
        ([0], [-1], [1], None),
    ],
)
def test_a_slice_that_may_leave_something_out_stays(tmp_path, starts, ends, axes, steps):
    assert operators(sliced(tmp_path / "a.onnx", starts, ends, axes, steps)) == ["Relu", "Slice", "Relu"]


def test_saving_a_model_and_remarks_on_its_nodes_do_not_change_what_it_computes(tmp_path):
    model, other = conv_graph(), conv_graph()
    model.graph.node[1].doc_string = "from a line of torch"
    before = graph_sha256(model)
    save_model(model, tmp_path / "model.onnx", {"labels": "a,b"})
    assert before == graph_sha256(model) == graph_sha256(onnx.load(tmp_path / "model.onnx")) == graph_sha256(other)
    other.graph.initializer[0].raw_data = other.graph.initializer[0].raw_data[::-1]
    assert graph_sha256(other) != before
