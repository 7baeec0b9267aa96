import numpy as np
import onnx
import pytest

from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.qdq import write_flavor
from edgeclf.graph.int8.ranges import ranges_of
from edgeclf.graph.int8.rounding import Rounding
from edgeclf.graph.layers import find_layers
from edgeclf.graph.prepare import prepare
from edgeclf.quantization.sensitivity import fewest, measure_effects, measure_noise
from edgeclf.targets import FLAVORS


@pytest.mark.parametrize("needed", range(1, 12))
def test_the_fewest_that_are_enough_are_found_in_few_attempts(needed):
    asked = []

    def attempt(count):
        asked.append(count)
        return f"{count} layers" if count >= needed else None

    assert fewest(11, attempt) == (needed, f"{needed} layers")
    assert len(asked) <= 8
    assert len(set(asked)) == len(asked)


def test_none_is_found_where_all_are_not_enough():
    assert fewest(5, lambda count: None) is None
    assert fewest(0, lambda count: "never asked") is None


@pytest.mark.slow
def test_a_layer_with_a_ruined_range_is_the_noisiest(usual_run):
    model = prepare(usual_run / "model.fp32.onnx")
    random = np.random.RandomState(0)
    batches = [random.randint(0, 256, (1, 64, 64, 3)).astype(np.float32) for _ in range(4)]
    ranges = ranges_of(collect_histograms(model, batches), "minmax")
    layers = find_layers(model.graph)
    wrong = next(layer for layer in layers if "blocks.6" in layer.name and "conv_dw" in layer.name)
    clipped = next(name for node in model.graph.node if wrong.output in node.input for name in node.output)
    ranges[wrong.output] = ranges[clipped] = (0.0, 0.01)
    quantized = write_flavor(model, FLAVORS["int8-cpu"], ranges, Rounding(model, {}))
    rows = measure_noise(model, quantized, layers, batches)
    # The layers behind it get its noise.
    behind = [layer.name for layer in layers[layers.index(wrong) + 1 :]]
    assert rows[0].layer in behind
    assert {row.layer for row in rows} <= {layer.name for layer in layers}
    good = next(row for row in rows if "blocks.3.0" in row.layer)
    assert rows[0].snr_db < 10 < good.snr_db


def test_effects_are_those_of_each_layer_alone_the_worst_first(run):
    layers = find_layers(onnx.load(run / "model.fp32.onnx").graph)[:3]
    reference = np.array([[3, 0], [0, 3]], np.float32)
    found = dict(zip([layer.name for layer in layers], [reference * 1.1, reference[::-1], reference], strict=True))
    rows = measure_effects(layers, lambda layer: found[layer.name], reference, np.array([0, 1]))
    assert [row.layer for row in rows] == [layers[1].name, layers[0].name, layers[2].name]
    assert [(row.drop, row.agreement) for row in rows] == [(1, 0), (0, 1), (0, 1)]
    assert rows[1].snr_db == pytest.approx(20, abs=0.1)
