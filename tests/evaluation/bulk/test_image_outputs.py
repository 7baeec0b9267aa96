"""Outputs of many images are kept when they are inferred, and used again by the next call."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeclf
from edgeclf.errors import DependencyError, EdgeclfError, OptionError
from edgeclf.evaluation.bulk import image_cache, image_outputs, ray_engine
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf.evaluation.open_model import open_model
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner


@pytest.fixture
def small_parts(monkeypatch):
    for module in (image_cache, image_outputs):
        monkeypatch.setattr(module, "IMAGES_OF_A_FILE", 20)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The files in the cache folder, in which other tests keep nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda: list((tmp_path / "cache").glob("edgeclf/outputs/*/*.npz"))


@pytest.fixture
def inferred(monkeypatch):
    """Whatever ONNX Runtime infers; after inferred.most images, Ctrl-C is pressed."""

    class Inferred(list):
        most = 1000

    found, infer = Inferred(), OnnxRuntimeRunner.infer_outputs

    def counting(self, batch):
        if len(found) >= found.most:
            raise KeyboardInterrupt
        found.append(batch)
        return infer(self, batch)

    monkeypatch.setattr(OnnxRuntimeRunner, "infer_outputs", counting)
    return found


@pytest.fixture
def alone(model, tmp_path):
    """A run's file that is not beside the run, where logits are kept."""
    return shutil.copy(model, tmp_path / "alone.onnx")


@pytest.mark.parametrize("subject", ["alone", "bundle", "own_run"])
def test_an_interrupted_evaluation_goes_on_where_it_was(subject, request, digits, small_parts, kept, inferred, capfd):
    """Bundles have distances, by features; logits of a run were only kept at the end."""
    model = request.getfixturevalue(subject)
    for path in Path(model).glob("logits.npz"):
        path.unlink()
    inferred.clear()
    inferred.most = 50
    with pytest.raises(KeyboardInterrupt):
        edgeclf.evaluate(model, digits, split="train")
    assert len(kept()) == 3
    inferred.most = 1000
    found = edgeclf.evaluate(model, digits, split="train")
    assert found.images <= len(inferred) <= found.images + 2 * 4  # a bundle infers its golden images when it is opened
    request.getfixturevalue("monkeypatch").undo()
    assert found.to_dict() == edgeclf.evaluate(model, digits, split="train").to_dict()


def test_another_way_to_run_the_same_file_has_outputs_of_its_own(bundle, digits, small_parts, kept, tmp_path):
    """A file of a run is computed with exact sums, as on a board; a bundle's as this processor does it."""
    file = shutil.copy(bundle / "model.int8-cpu.onnx", tmp_path / "alone.onnx")
    for model, name in ((bundle, "int8-cpu"), (file, None)):
        with open_model(model, name, at_once=2) as opened:
            images = EvaluationSet.unlabeled(sorted((digits / "3").iterdir()), opened.classifier.preprocessing)
            image_outputs.image_outputs(opened, images, "")
    assert len({path.parent for path in kept()}) == 2


def test_few_images_are_not_kept(alone, digits, kept):
    edgeclf.evaluate(alone, digits, split="val")
    assert not kept()


def test_a_damaged_file_is_inferred_again(alone, digits, small_parts, kept, inferred):
    first = edgeclf.evaluate(alone, digits, split="val")
    inferred.clear()
    for path in kept():
        with np.load(path) as stored:
            np.savez(path, **{**stored, "logits": stored["logits"].astype(float)})
    assert np.array_equal(edgeclf.evaluate(alone, digits, split="val").logits, first.logits)
    assert len(inferred) == first.images


def test_torch_does_not_run_on_ray(alone):
    with open_model(alone) as opened:
        by_torch, images = replace(opened, name="torch", file=None), EvaluationSet.unlabeled([], Preprocessing(32, 32))
        with pytest.raises(OptionError, match="torch runs on torch, which --engine ray does not"):
            image_outputs.image_outputs(by_torch, images, "", "ray")


def test_a_machine_with_another_version_computes_nothing(alone):
    job = image_outputs._Inference(str(alone), None, "", "OnnxRuntimeRunner 1.0.0", False)
    with pytest.raises(
        EdgeclfError,
        match=r"runs by OnnxRuntimeRunner .* on a machine of the cluster, OnnxRuntimeRunner 1\.0\.0 was expected",
    ):
        job([])


def test_without_ray_the_message_says_how_to_install_it(alone, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"edgeclf\[ray\]"):
        edgeclf.evaluate(alone, digits, engine="ray")
    with pytest.raises(DependencyError, match=r"edgeclf\[ray\]"):
        edgeclf.audit(digits, tmp_path / "audit", engine="ray")
