"""Logits are used again for the same model and image, and for nothing else."""

import json
import shutil

import numpy as np
import pytest

from edgeclf.evaluation import logit_store
from edgeclf.evaluation.evaluation_set import EvaluationSet
from edgeclf.evaluation.logit_store import LOGIT_FILE, LogitStore, read_logits, write_logits
from edgeclf.training.runs import read_run
from edgeclf_runtime.files.read import sha256_file

MODEL = "model.fp32.onnx"


@pytest.fixture
def images(run):
    opened = read_run(run)
    return EvaluationSet(opened.dataset().split("val"), opened.labels, opened.preprocessing)


@pytest.fixture
def counted(monkeypatch):
    """How many images are inferred from now on."""
    count = []
    infer = logit_store.infer_file

    def infer_file(model, name, batches):
        batches = list(batches)
        count.extend(batches)
        return infer(model, name, batches)

    monkeypatch.setattr(logit_store, "infer_file", infer_file)
    return count


def test_quantize_keeps_the_logits_of_every_file_for_the_validation_images(run, images, counted):
    store = read_logits(run / LOGIT_FILE, images.spec)
    for name in ("fp32", "fp16", "int8-cpu", "int8-arm", "int8-tensorrt", "int8-fp16"):
        kept = store.infer(run / f"model.{name}.onnx", name, images, "")
        assert counted == []
        inferred = LogitStore().infer(run / f"model.{name}.onnx", name, images, "")
        assert np.abs(kept - inferred).max() < 1e-4
        counted.clear()


def test_images_that_are_not_known_are_inferred_and_stand_in_their_order(run, images, counted, tmp_path):
    few = images.subset([0, 3, 4])
    logits = LogitStore().infer(run / MODEL, "fp32", few, "")
    write_logits(tmp_path / LOGIT_FILE, few, {sha256_file(run / MODEL): logits})
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


def test_another_model_or_preprocessing_or_library_knows_nothing(run, images, counted, tmp_path, monkeypatch):
    other = tmp_path / MODEL
    other.write_bytes((run / MODEL).read_bytes() + b"\x72\x00")  # an empty field: another file, the same model
    read_logits(run / LOGIT_FILE, images.spec).infer(other, "fp32", images.subset([0]), "")
    assert len(counted) == 1
    read_logits(run / LOGIT_FILE, images.spec._replace(resize="stretch")).infer(
        run / MODEL, "fp32", images.subset([0]), ""
    )
    assert len(counted) == 2
    monkeypatch.setattr(logit_store, "backend_version", lambda backend: "0.0")
    read_logits(run / LOGIT_FILE, images.spec).infer(run / MODEL, "fp32", images.subset([0]), "")
    assert len(counted) == 3


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "shape", "labels"])
def test_a_damaged_file_knows_nothing(run, images, counted, tmp_path, damage):
    path = tmp_path / LOGIT_FILE
    data = (run / LOGIT_FILE).read_bytes()
    if damage == "shape":
        with np.load(run / LOGIT_FILE) as stored:
            np.savez(path, **{**stored, "logits_0": stored["logits_0"][:-1]})
    elif damage == "labels":
        with np.load(run / LOGIT_FILE) as stored:
            header = json.loads(str(stored["key"]))
            np.savez(path, **{**stored, "key": np.array(json.dumps({**header, "images": ["no hash"]}))})
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": data[:-200], "text": b"logits"}[damage])
    read_logits(path, images.spec).infer(run / MODEL, "fp32", images.subset([0]), "")
    assert len(counted) == 1
