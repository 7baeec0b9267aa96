import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from edgeclf import QuantizeOptions, quantize
from edgeclf.display.progress import show_progress
from edgeclf.errors import ModelError, OutputError
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf.graph.inference import infer_graph
from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.qdq import write_flavor
from edgeclf.graph.int8.ranges import ranges_of
from edgeclf.graph.int8.rounding import Rounding
from edgeclf.graph.prepare import prepare
from edgeclf.quantization.finetune.grid import Grid, TunedWeights, grids_of
from edgeclf.quantization.finetune.record import Finetuning, Outcome
from edgeclf.quantization.finetune.torch_graph import TorchGraph, refuse_unknown
from edgeclf.quantization.finetune.tune import Finetuner, read_training_images
from edgeclf.quantization.report import read_report
from edgeclf.targets import FLAVORS
from edgeclf.training.runs import read_run

INT8 = ["int8-cpu", "int8-arm", "int8-tensorrt"]
BETTER = Outcome(in_float=0, drop=0.0, agreement=1.0, drop_int8=0.0, agreement_int8=1.0)
WORSE = replace(BETTER, in_float=None, drop=0.5)


@pytest.fixture(scope="module")
def run(usual_run):
    return usual_run


@pytest.fixture(scope="module")
def images(run):
    found = read_run(run)
    return EvaluationSet(found.dataset().split("train"), found.labels, found.preprocessing)


@pytest.fixture(scope="module")
def fp32(run):
    return prepare(run / "model.fp32.onnx")


def torch_graph(run, fp32, name):
    return TorchGraph(fp32, onnx.load(run / f"model.{name}.onnx"), FLAVORS[name].sums_of_16_bits)


@pytest.mark.parametrize("name", INT8)
def test_torch_computes_a_file_as_onnx_runtime_does(run, fp32, images, name):
    import torch

    batches = list(images.batches())[::10]
    wanted = infer_graph(onnx.load(run / f"model.{name}.onnx"), name, batches)
    found = torch_graph(run, fp32, name)(torch.from_numpy(np.concatenate(batches))).detach().numpy()
    # A value between two steps may round to either, which the next layers carry on.
    share = 0.03 if name == "int8-arm" else 0.02  # its ranges are those that are best for int8-cpu
    assert np.abs(found - wanted).mean() < share * np.ptp(wanted)


@pytest.mark.parametrize("name", INT8)
def test_gradients_reach_every_weight(run, fp32, images, name):
    import torch

    graph = torch_graph(run, fp32, name)
    graph(torch.from_numpy(next(images.batches()))).square().sum().backward()
    assert [name for name, value in graph.weights.items() if value.grad is None] == []
    assert sum(bool(value.grad.any()) for value in graph.weights.values()) > 0.9 * len(graph.weights)


@pytest.mark.parametrize("name", INT8)
def test_fine_tuning_begins_at_what_the_file_stores(run, fp32, name):
    before = onnx.load(run / f"model.{name}.onnx")
    after = onnx.load(run / f"model.{name}.onnx")
    TunedWeights(fp32, torch_graph(run, fp32, name).tuned()).apply(after, FLAVORS[name].sums_of_16_bits)
    for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True):
        # Biases in INT32 were in steps already, and weights in float are rounded to them.
        wanted, found = map(onnx.numpy_helper.to_array, (one, other))
        assert np.allclose(wanted, found, rtol=1e-6, atol=1e-6), one.name


def test_neighbors_of_a_sum_in_16_bits_stay_within_their_limit():
    import torch

    grid = Grid(np.full((1, 1, 1, 1), 0.5, np.float32), 127, 1)
    steps = grid.steps(torch.tensor([60.0, 60.0, -50.0, -60.0, 10.0]).reshape(1, 5, 1, 1)).flatten()
    assert steps.tolist() == [120, 8, -100, -28, 20]


def test_every_int8_layer_of_a_file_has_a_grid(run, fp32):
    report = json.loads((run / "quantization.json").read_text())
    for file in report["files"]:
        if file["name"] in INT8:
            grids = grids_of(fp32, onnx.load(run / f"model.{file['name']}.onnx"), False)
            assert len(grids) == file["layers"] - len(file["float_layers"])


def narrow(fp32, images):
    """Give a Q/DQ file whose ranges cut off much of the activations."""
    histograms = collect_histograms(fp32, list(images.batches())[::8])
    ranges = {key: (0.7 * low, 0.7 * high) for key, (low, high) in ranges_of(histograms, "minmax").items()}
    return write_flavor(fp32, FLAVORS["int8-cpu"], ranges, Rounding(fp32, {})), ranges


def test_a_tuned_file_is_closer_to_fp32_and_the_same_seed_gives_the_same(run, fp32, images):
    few = images.subset(np.arange(0, len(images), 4))
    quantized, ranges = narrow(fp32, images)
    training = read_training_images(few, run / "model.fp32.onnx")
    tuner = Finetuner(lambda: training, epochs=6, seed=0)
    weights, (before, after) = tuner.tune("int8-cpu", fp32, quantized)
    assert after < 0.8 * before
    tuned = write_flavor(fp32, FLAVORS["int8-cpu"], ranges, weights)
    errors = [
        np.abs(infer_graph(model, "int8-cpu", few.batches()) - training.logits).mean() for model in (quantized, tuned)
    ]
    assert errors[1] < 0.8 * errors[0]
    again, _ = tuner.tune("int8-cpu", fp32, quantized)
    assert all(np.array_equal(value, again._values[name]) for name, value in weights._values.items())


def test_there_is_nothing_to_do_where_every_layer_is_int8(run, tmp_path, capsys):
    own = shutil.copytree(run, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    show_progress()
    report = quantize(own, QuantizeOptions(size=60, max_drop=0.2, finetune_int8=True))
    show_progress(False)
    assert "nothing to fine-tune" in capsys.readouterr().err
    assert [file.name for file in report.files] == list(FLAVORS)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before


def test_a_file_with_layers_in_float_is_replaced_only_if_asked(run, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    facts = json.loads((own / "quantization.json").read_text())
    facts["files"][0]["fallback"] = [{"layer": "one", "size": 1, "latency_ms": 0.0}]
    (own / "quantization.json").write_text(json.dumps(facts))
    with pytest.raises(OutputError, match=r"model\.int8-cpu\.onnx"):
        quantize(own, QuantizeOptions(size=60, finetune_int8=True))


def test_the_record_is_read_back_and_reports_without_one_are_read_too(run, tmp_path):
    record = Finetuning(
        kept=True, images=9, epochs=1, seed=0, loss_before=0.5, loss_after=0.1, time_s=1.0, before=WORSE, after=BETTER
    )
    report = read_report(run)
    assert report.files[0].findings.finetuning is None
    file = replace(report.files[0], findings=replace(report.files[0].findings, finetuning=record))
    report = replace(report, files=(file, *report.files[1:]))
    (tmp_path / "quantization.json").write_text(report.to_json())
    assert read_report(tmp_path).files[0].findings.finetuning == record
    assert "before, does not pass, drop +0.5000" in str(report)


def test_fewer_layers_in_float_are_better():
    some = replace(BETTER, in_float=3)
    for better, worse in ((BETTER, WORSE), (some, WORSE), (BETTER, some)):
        assert better.better_than(worse)
        assert not worse.better_than(better)
        assert not worse.better_than(worse)


def test_an_operator_that_cannot_be_tuned_is_named():
    graph = helper.make_graph([helper.make_node("Loop", ["a"], ["b"])], "g", [], [])
    with pytest.raises(ModelError, match="operators Loop, which --finetune-int8 does not know"):
        refuse_unknown(helper.make_model(graph))
