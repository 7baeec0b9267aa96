"""Logits are used again for the same model and image, and for nothing else."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgeclf
from edgeclf.evaluation import logit_store
from edgeclf.evaluation.bulk import image_outputs
from edgeclf.evaluation.bulk.image_outputs import as_halves
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf.evaluation.logit_store import LOGIT_FILE, LogitStore, read_logits
from edgeclf.graph.onnx_file import without_features
from edgeclf.training.runs import read_run
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

MODEL = "model.fp32.onnx"


@pytest.fixture
def images(run):
    opened = read_run(run)
    return EvaluationSet(opened.dataset().split("val"), opened.labels, opened.preprocessing)


@pytest.fixture
def counted(monkeypatch):
    """How many images are inferred from now on."""
    count = []
    infer = logit_store.infer_file_outputs

    def infer_file_outputs(model, name, batches):
        batches = list(batches)
        count.extend(batches)
        return infer(model, name, batches)

    monkeypatch.setattr(logit_store, "infer_file_outputs", infer_file_outputs)
    return count


def test_quantize_keeps_the_outputs_of_every_file_for_the_validation_images(run, images, counted):
    store = read_logits(run / LOGIT_FILE, images.spec)
    for name in ("fp32", "fp16", "int8-cpu", "int8-arm", "int8-tensorrt", "int8-fp16"):
        kept = store.outputs(run / f"model.{name}.onnx", name, images, "")
        assert counted == []
        inferred = LogitStore().outputs(run / f"model.{name}.onnx", name, images, "")
        assert np.abs(kept.logits - inferred.logits).max() < 1e-4
        assert kept.features.shape == (len(images), 256)
        assert kept.features.dtype == np.float16
        assert np.allclose(kept.features, inferred.features, rtol=1e-2, atol=1e-3)
        counted.clear()


def test_images_that_are_not_known_are_inferred_and_stand_in_their_order(run, images, counted, tmp_path):
    few = images.subset([0, 3, 4])
    logits = LogitStore().infer(run / MODEL, "fp32", few, "")
    store = LogitStore()
    store.add(sha256_file(run / MODEL), few.sha256, logits)
    store.write(tmp_path / LOGIT_FILE, images.spec, {sha256_file(run / MODEL)})
    counted.clear()
    found = read_logits(tmp_path / LOGIT_FILE, images.spec).infer(run / MODEL, "fp32", images, "")
    assert len(counted) == len(images) - 3
    assert np.abs(found - LogitStore().infer(run / MODEL, "fp32", images, "")).max() < 1e-5


def test_an_image_that_changed_on_disk_is_inferred_again(run, images, counted, tmp_path):
    copy = images.subset([0, 1])
    copy.paths = [shutil.copy(path, tmp_path) for path in copy.paths]
    shutil.copy(images.paths[5], copy.paths[1])
    found = read_logits(run / LOGIT_FILE, images.spec).infer(run / MODEL, "fp32", copy, "")
    assert len(counted) <= 1
    assert np.abs(found - LogitStore().infer(run / MODEL, "fp32", images.subset([0, 5]), "")).max() < 1e-5


def test_whatever_was_inferred_is_not_inferred_again(run, images, counted):
    store = LogitStore()
    first = store.infer(run / MODEL, "fp32", images, "")
    assert len(counted) == len(images)
    assert np.array_equal(store.infer(run / MODEL, "fp32", images, ""), first)
    assert len(counted) == len(images)


def test_features_that_are_not_known_are_inferred_once_and_logits_need_none(run, images, counted):
    store = LogitStore()
    logits = store.infer(run / MODEL, "fp32", images, "")
    assert np.array_equal(store.outputs(run / MODEL, "fp32", images, "").logits, logits)
    assert len(counted) == len(images)
    older = LogitStore()
    older.add(sha256_file(run / MODEL), images.sha256, logits)
    assert older.outputs(run / MODEL, "fp32", images, "").features.shape == (len(images), 256)
    assert len(counted) == 2 * len(images)


def test_a_model_without_features_has_none_and_is_not_inferred_for_them(run, images, counted, tmp_path):
    own = tmp_path / MODEL
    onnx.save(without_features(onnx.load(run / MODEL)), own)
    store = LogitStore()
    assert store.outputs(own, "fp32", images, "").features is None
    assert store.outputs(own, "fp32", images, "").features is None
    assert len(counted) == len(images)


def test_features_too_large_for_the_file_are_left_out_and_logits_stay(run, images, tmp_path, monkeypatch):
    monkeypatch.setattr(logit_store, "_MOST_FEATURE_BYTES", 256 * 2 * (len(images) - 1))
    store, path = LogitStore(), tmp_path / LOGIT_FILE
    store.outputs(run / MODEL, "fp32", images, "")
    store.write(path, images.spec, {sha256_file(run / MODEL)})
    found = read_logits(path, images.spec)
    assert found.known(sha256_file(run / MODEL), images) is not None
    with np.load(path) as stored:
        assert set(stored) == {"key", "logits_0", "images_0"}


def test_features_beyond_float16_become_its_largest_number():
    halves = as_halves(np.array([1e6, -1e6, 0.5], np.float32))
    assert halves.tolist() == [65504.0, -65504.0, 0.5]


def test_another_model_or_preprocessing_or_library_knows_nothing(run, images, counted, tmp_path, monkeypatch):
    other = tmp_path / MODEL
    other.write_bytes((run / MODEL).read_bytes() + b"\x72\x00")  # an empty field: another file, the same model
    read_logits(run / LOGIT_FILE, images.spec).infer(other, "fp32", images.subset([0]), "")
    assert len(counted) == 1
    read_logits(run / LOGIT_FILE, images.spec._replace(resize="stretch")).infer(
        run / MODEL, "fp32", images.subset([0]), ""
    )
    assert len(counted) == 2
    monkeypatch.setattr(image_outputs, "backend_version", lambda backend: "0.0")
    read_logits(run / LOGIT_FILE, images.spec).infer(run / MODEL, "fp32", images.subset([0]), "")
    assert len(counted) == 3


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "shape", "labels", "features"])
def test_a_damaged_file_knows_nothing(run, images, counted, tmp_path, damage):
    path = tmp_path / LOGIT_FILE
    data = (run / LOGIT_FILE).read_bytes()
    if damage == "shape":
        with np.load(run / LOGIT_FILE) as stored:
            np.savez(path, **{**stored, "logits_0": stored["logits_0"][:-1]})
    elif damage == "features":
        with np.load(run / LOGIT_FILE) as stored:
            np.savez(path, **{**stored, "features_0": stored["features_0"].astype(np.float32)})
    elif damage == "labels":
        with np.load(run / LOGIT_FILE) as stored:
            header = json.loads(str(stored["key"]))
            np.savez(path, **{**stored, "key": np.array(json.dumps({**header, "images": ["no hash"]}))})
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": data[:-200], "text": b"logits"}[damage])
    read_logits(path, images.spec).infer(run / MODEL, "fp32", images.subset([0]), "")
    assert len(counted) == 1


@pytest.fixture
def inferred(monkeypatch):
    """How many images ONNX Runtime infers from now on, by the file of the model."""
    count = Counter()
    infer = OnnxRuntimeRunner.infer_outputs

    def counting(self, batch):
        count[self.path.name] += len(batch)
        return infer(self, batch)

    opened = OnnxRuntimeRunner.__init__

    def opening(self, model_path, *rest, **keywords):
        self.path = Path(model_path)
        opened(self, model_path, *rest, **keywords)

    monkeypatch.setattr(OnnxRuntimeRunner, "__init__", opening)
    monkeypatch.setattr(OnnxRuntimeRunner, "infer_outputs", counting)
    return count


def test_a_runs_model_infers_each_image_once_whatever_is_asked_of_it(run, digits, inferred, tmp_path):
    own = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns(LOGIT_FILE)))
    names = ("fp32", "int8-cpu")
    first = [edgeclf.evaluate(own, digits, name=name) for name in names]
    assert inferred == {f"model.{name}.onnx": 45 for name in names}
    inferred.clear()
    assert [edgeclf.evaluate(own, digits, name=name).accuracy for name in names] == [one.accuracy for one in first]
    assert edgeclf.compare(own, own, digits, name_b="int8-cpu", skip_timing=True).images == 45
    assert inferred == {}
    edgeclf.bundle(own, tmp_path / "a.edge", golden=1, targets=("arm-cpu",))
    assert inferred["model.int8-arm.onnx"] > 45 + 12  # test and val, and a few for the golden image
    training = edgeclf.read_run(own).dataset().counts()["train"]
    assert inferred["model.fp32.onnx"] - training < 45
    golden = inferred["model.fp32.onnx"] - training - 12
    inferred.clear()
    edgeclf.bundle(own, tmp_path / "b.edge", golden=1, targets=("arm-cpu",), coverage=0.5)
    assert inferred["model.fp32.onnx"] == golden


def test_quantize_keeps_what_evaluate_has_inferred(own_run, digits, inferred):
    edgeclf.evaluate(own_run, digits)
    edgeclf.quantize(own_run, flavors=("fp16",), size=20, max_drop=1.0)
    inferred.clear()
    edgeclf.evaluate(own_run, digits)
    assert inferred == {}
    edgeclf.quantize(own_run, flavors=("fp16",), size=20, max_drop=1.0, overwrite=True)
    assert inferred["model.fp32.onnx"] < 45  # timed, but its evaluation images were known


def test_a_model_whose_logits_cannot_be_kept_is_evaluated_all_the_same(run, digits, tmp_path):
    own = Path(shutil.copytree(run, tmp_path / "run"))
    (own / LOGIT_FILE).unlink()
    (own / LOGIT_FILE).mkdir()  # as in a folder that refuses the file
    assert edgeclf.evaluate(own, digits).images == 45
    assert (own / LOGIT_FILE).is_dir()


def test_only_as_many_logits_are_kept_as_can_be_read_again(run, images, tmp_path, monkeypatch):
    store = LogitStore()
    for name in ("fp32", "int8-cpu"):
        store.infer(run / f"model.{name}.onnx", name, images, "")
    digests = [sha256_file(run / f"model.{name}.onnx") for name in ("fp32", "int8-cpu")]
    monkeypatch.setattr(logit_store, "_MOST_BYTES", len(images) * 3 * 4)
    store.write(tmp_path / LOGIT_FILE, images.spec, digests)
    again = read_logits(tmp_path / LOGIT_FILE, images.spec)
    assert again.known(digests[0], images) is not None
    assert again.known(digests[1], images) is None
