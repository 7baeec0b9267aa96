import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import edgeclf
from edgeclf import export, load_dataset
from edgeclf.data.pixels import load_batches
from edgeclf.display.progress import show_progress
from edgeclf.errors import GateError, ModelError, OutputError
from edgeclf.evaluation import export as export_module
from edgeclf.evaluation.metadata import METADATA_KEY
from edgeclf.evaluation.open_model import TorchRunner
from edgeclf.graph.onnx_file import write_onnx
from edgeclf.targets import IR_VERSIONS, OPSET
from edgeclf.training.architecture import ImageClassifier
from edgeclf.training.machine import threads as torch_machine
from edgeclf.training.runs import read_run
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner


@pytest.fixture
def own_run(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_the_graph_keeps_the_contract(run):
    model = onnx.load(run / "model.fp32.onnx")
    (image,), (logits, features) = model.graph.input, model.graph.output
    assert (image.name, logits.name, features.name) == ("image", "logits", "features")
    assert [d.dim_param or d.dim_value for d in features.type.tensor_type.shape.dim] == ["N", 256]
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["N", 64, 64, 3]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSIONS[OPSET]


def test_normalization_is_a_grouped_convolution_behind_the_transpose(run):
    first, second = onnx.load(run / "model.fp32.onnx").graph.node[:2]
    assert (first.op_type, second.op_type) == ("Transpose", "Conv")
    assert {attribute.name: attribute.i for attribute in second.attribute}["group"] == 3


def test_torch_uses_no_more_threads_than_a_container_may(own_run, monkeypatch, tmp_path):
    """As torch counts processors, the comparison would take longer than necessary in a container."""
    monkeypatch.setattr(torch_machine, "quota_cores", lambda: 2)
    noted, before = [], torch.get_num_threads()
    forward = ImageClassifier.forward

    def watched(*given):
        noted.append(torch.get_num_threads())
        return forward(*given)

    monkeypatch.setattr(ImageClassifier, "forward", watched)
    torch.set_num_threads(3)
    try:
        edgeclf.export(own_run, tmp_path / "model.onnx")
    finally:
        torch.set_num_threads(before)
    assert set(noted) == {2}


@pytest.mark.slow
def test_logits_are_those_of_torch_for_any_batch(run):
    opened = read_run(run)
    paths = [sample.path for sample in opened.dataset().split("test")]
    with OnnxRuntimeRunner(run / "model.fp32.onnx") as runner:
        for batch in load_batches(paths, opened.preprocessing, 7, "comparing"):
            expected = TorchRunner(opened.network()).infer(batch)
            assert np.abs(runner.infer(batch) - expected).max() < 1e-3


def test_features_are_what_torchs_head_reads(run):
    opened = read_run(run)
    network = opened.network()
    batch = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    with OnnxRuntimeRunner(run / "model.fp32.onnx") as runner, torch.no_grad():
        expected = network.features(torch.from_numpy(batch)).numpy()
        assert np.abs(runner.infer_outputs(batch).features - expected).max() < 1e-3 * np.abs(expected).max()


def test_large_logits_may_differ_in_proportion(own_run):
    weights = own_run / "model.safetensors"
    tensors = load_file(weights)
    (last,) = [name for name in tensors if name.endswith("classifier.weight")]
    tensors[last] = tensors[last] * 3000
    save_file(tensors, weights)
    assert export(own_run, overwrite=True).largest_difference > 1e-3


def test_the_file_says_which_labels_and_preprocessing_belong_to_it(run):
    with OnnxRuntimeRunner(run / "model.fp32.onnx") as runner:
        facts = json.loads(runner.metadata[METADATA_KEY])
    assert facts["labels"] == ["3", "5", "8"]
    assert Preprocessing(**facts["preprocessing"]) == Preprocessing(64, 64)


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    export(run, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (run / "model.fp32.onnx").read_bytes()


def test_a_file_is_not_overwritten_unasked(run):
    with pytest.raises(OutputError, match=r"fp32\.onnx exists"):
        export(run)


def test_the_images_may_be_a_path_or_a_data_set(own_run, digits):
    for data in (str(digits), read_run(own_run).dataset()):
        options = edgeclf.ExportOptions(data=data, formats=("onnx",))
        assert not export(own_run, None, options, True).noise
    with pytest.raises(edgeclf.DataError, match="not a data set"):
        export(own_run, overwrite=True, data=str(own_run))


@pytest.mark.parametrize(
    ("options", "given"), [({"formats": ("onnx", "timm")}, "format onnx, timm"), ({"golden": "folder"}, "golden")]
)
def test_other_formats_are_refused_with_the_function_that_writes_them(options, given):
    with pytest.raises(
        edgeclf.OptionError, match=rf"ONNX only, but {given} was given; call edgeclf.export_formats\(\)"
    ):
        export("run", **options)


@pytest.mark.slow
def test_a_file_whose_logits_differ_from_torchs_is_not_kept(own_run, monkeypatch):
    """The trained weights are written, and torch infers with others: what a broken exporter would look like."""
    network = read_run(own_run).network()
    other = torch.nn.Parameter(network.head.bias + 0.1)
    monkeypatch.setattr(TorchRunner, "infer", lambda self, batch: _infer_with_bias(self, batch, other))
    with pytest.raises(GateError, match=r"differ from torch's by 0\.1"):
        export(own_run, own_run / "bad.onnx")
    assert not [path for path in own_run.iterdir() if "bad" in path.name]


def _infer_with_bias(runner, batch, bias):
    with torch.no_grad():
        runner._network.head.bias.copy_(bias)
        return runner._network(torch.from_numpy(batch)).numpy()


class GridSample(nn.Module):
    """An operator that came with opset 16."""

    def forward(self, image):
        return nn.functional.grid_sample(image.permute(0, 3, 1, 2), image[..., :2])


def test_equal_weights_are_stored_for_each_layer_not_handed_on_by_identity_nodes(tmp_path):
    class TwoEqualBiases(nn.Sequential):
        def forward(self, image):
            return super().forward(image.permute(0, 3, 1, 2)).mean((2, 3))

    network = TwoEqualBiases(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    for layer in network:
        nn.init.zeros_(layer.bias)
    write_onnx(network, Preprocessing(8, 8), tmp_path / "equal.onnx", {})
    graph = onnx.load(tmp_path / "equal.onnx").graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    stored = {tensor.name for tensor in graph.initializer}
    assert {node.input[2] for node in convolutions} < stored
    assert "Identity" not in {node.op_type for node in graph.node}


def test_an_operator_that_came_after_opset_13_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"cannot be written as ONNX with opset 13.*grid_sampler"):
        write_onnx(GridSample(), Preprocessing(8, 8), tmp_path / "new.onnx", {})


def test_images_are_those_of_the_run(run, digits):
    assert {s.path for s in read_run(run).dataset().samples} == {s.path.resolve() for s in load_dataset(digits).samples}


def test_a_run_whose_images_are_gone_is_exported_all_the_same_and_says_what_it_was_checked_on(own_run):
    facts = json.loads((own_run / "run.json").read_text())
    facts["data"]["root"] = "/nowhere"
    (own_run / "run.json").write_text(json.dumps(facts))
    report = export(own_run, overwrite=True)
    assert (report.images, report.noise) == (8, True)
    assert str(report).endswith("of torch on 8 images of random pixels")


def test_an_image_that_went_bad_does_not_stop_an_export(own_run, digits, tmp_path):
    facts = json.loads((own_run / "run.json").read_text())
    facts["data"]["root"] = str(shutil.copytree(digits, tmp_path / "photos"))
    (own_run / "run.json").write_text(json.dumps(facts))
    read_run(own_run).dataset().split("val")[0].path.write_bytes(b"no image")
    report = export(own_run, overwrite=True)
    assert (report.images, report.noise) == (8, False)


def test_a_run_without_an_export_is_evaluated_by_a_temporary_one(own_run, digits):
    exported = edgeclf.evaluate(own_run, digits)
    (own_run / "model.fp32.onnx").unlink()
    before = sorted(own_run.iterdir())
    found = edgeclf.evaluate(own_run, digits)
    assert found.model == "fp32"
    assert np.array_equal(found.logits, exported.logits)
    assert sorted(own_run.iterdir()) == before
    torch = edgeclf.evaluate(own_run, digits, name="torch")
    assert torch.model == "torch"
    assert np.abs(torch.logits - found.logits).max() < 1e-3
    assert torch.metrics.accuracy == found.metrics.accuracy


def test_the_images_that_a_run_without_an_export_was_trained_on_are_left_out_too(own_run, digits):
    (own_run / "model.fp32.onnx").unlink()
    found = edgeclf.evaluate(own_run, digits, split="all")
    assert (found.images, found.trained_on) == (57, 123)


def test_a_run_that_cannot_be_exported_is_evaluated_with_torch(own_run, digits, monkeypatch, capsys):
    (own_run / "model.fp32.onnx").unlink()
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    monkeypatch.setattr(export_module, "ROUNDING", 0.0)
    show_progress()
    try:
        assert edgeclf.evaluate(own_run, digits).model == "torch"
    finally:
        show_progress(False)
    assert "runs on torch, which is slower, since it cannot be exported" in capsys.readouterr().err
