import onnx
import pytest

from edgeclf.graph.layers import WEIGHTED, find_layers, float_layers, float_operators


@pytest.fixture(scope="module")
def graph(run):
    return onnx.load(run / "model.fp32.onnx").graph


def test_a_layer_is_a_convolution_or_product_with_what_follows_it(graph):
    layers = {layer.name: layer for layer in find_layers(graph)}
    assert list(layers) == [node.name for node in graph.node if node.op_type in WEIGHTED]
    kinds = {node.name: node.op_type for node in graph.node}
    stem = next(layer for name, layer in layers.items() if "conv_stem" in name)
    assert [kinds[name] for name in stem.nodes] == ["Conv", "Clip"]


def test_every_node_behind_the_first_weights_is_of_one_layer(graph):
    named = [name for layer in find_layers(graph) for name in layer.nodes]
    assert len(named) == len(set(named))
    assert {node.name for node in graph.node if node.op_type in ("Conv", "Clip", "Add", "Gemm")} <= set(named)


def test_a_sum_is_of_the_later_of_the_layers_that_it_adds(graph):
    add = next(node for node in graph.node if node.op_type == "Add")
    layer = next(layer for layer in find_layers(graph) if add.name in layer.nodes)
    assert layer.output == add.input[0]


def test_what_computes_in_float_is_told(run):
    graph = onnx.load(run / "model.int8-cpu.onnx").graph
    names = float_layers(graph)
    assert [name for name in names if "conv_stem" in name or "classifier" in name]
    assert [name for name in names if "blocks.4" in name] == []
    assert set(float_operators(graph)) >= {"Clip", "Transpose"}
    assert "Conv" not in float_operators(graph)
