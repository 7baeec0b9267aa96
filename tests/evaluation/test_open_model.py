"""Opening a run, an ONNX file or a bundle."""

import json
import shutil

import numpy as np
import onnx
import pytest

from edgeclf.display.progress import show_progress
from edgeclf.errors import BundleError, ModelError
from edgeclf.evaluation.open_model import open_model
from edgeclf.options import SplitOptions
from edgeclf_runtime.errors import BackendError

ARGUMENTS = {"run": {}, "onnx": {}, "int8": {"name": "int8-cpu"}, "bundle": {"name": "fp32"}}


@pytest.fixture
def paths(run, bundle):
    return {"run": run, "onnx": run / "model.fp32.onnx", "int8": run, "bundle": bundle}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_each_kind_of_model_knows_its_labels_preprocessing_and_division(paths, kind):
    with open_model(paths[kind], **ARGUMENTS[kind]) as opened:
        assert opened.classifier.labels == ("3", "5", "8")
        assert opened.classifier.preprocessing.width == 64
        assert opened.split_options == SplitOptions(method="exact")


def test_run_file_and_bundle_answer_alike(paths, digits):
    answers = []
    for kind in ("run", "onnx", "bundle"):
        with open_model(paths[kind], **ARGUMENTS[kind]) as opened:
            result = opened.classifier.classify(digits / "3" / "000.png")
            answers.append([result.label, *(confidence for _, confidence in sorted(result.top))])
    assert answers[0][0] == answers[1][0] == answers[2][0] == "3"
    assert np.ptp([answer[1:] for answer in answers], axis=0).max() < 1e-3


def test_a_run_is_opened_by_its_exported_file_which_is_faster_than_torch(run):
    with open_model(run) as opened:
        assert (opened.name, opened.classifier.backend) == ("fp32", "onnxruntime")
    with open_model(run, "torch") as opened:
        assert (opened.name, opened.classifier.backend) == ("torch", "torch")


def change_weights(run):
    weights = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(weights[:-4] + bytes(4))


def change_labels(run):
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "labels": ["8", "5", "3"]}))


@pytest.mark.parametrize("change", [change_weights, change_labels, lambda run: (run / "model.fp32.onnx").unlink()])
def test_an_exported_file_that_is_not_of_the_run_is_not_used(run, tmp_path, change, capsys):
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("model.int8*", "*.npz"))
    change(copy)
    show_progress()
    with open_model(copy) as opened:
        assert opened.name == "torch"
    show_progress(False)
    said = capsys.readouterr().err
    assert ("make it again with: edgeclf export" in said) == (copy / "model.fp32.onnx").exists()


def test_a_file_of_an_earlier_version_does_not_say_of_which_weights_it_is(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("model.int8*", "*.npz"))
    model = onnx.load(copy / "model.fp32.onnx")
    facts = json.loads(model.metadata_props[0].value)
    assert len(facts.pop("weights_sha256")) == 64
    model.metadata_props[0].value = json.dumps(facts)
    onnx.save(model, copy / "model.fp32.onnx")
    with open_model(copy) as opened:
        assert opened.name == "fp32"


def test_a_threshold_makes_doubtful_images_unknown(paths, digits):
    with open_model(paths["onnx"], threshold=1.0) as opened:
        assert opened.classifier.classify(digits / "3" / "000.png").label == "unknown"


def test_an_onnx_file_of_others_is_told_how_to_make_one_of_ours(run, tmp_path):
    model = onnx.load(run / "model.fp32.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(
        ModelError, match=r"has no valid metadata about its labels .*; export it with: edgeclf export RUN"
    ):
        open_model(tmp_path / "other.onnx")


def test_an_onnx_file_may_have_capitals(run, tmp_path):
    shutil.copyfile(run / "model.fp32.onnx", tmp_path / "MODEL.ONNX")
    with open_model(tmp_path / "MODEL.ONNX") as opened:
        assert opened.name == "fp32"


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_text("hello")
    with pytest.raises(BackendError, match=r"cannot load .*model\.onnx"):
        open_model(tmp_path / "model.onnx")


def test_a_name_that_a_bundle_does_not_hold_is_answered_with_those_that_it_does(bundle):
    with pytest.raises(BundleError, match=r"holds no model 'int4'; it holds .*fp32"):
        open_model(bundle, "int4")


def test_a_file_that_the_run_lacks_says_which_command_makes_it(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("*.onnx"))
    with pytest.raises(ModelError, match=r"has no model.int8-cpu.onnx; make it with: edgeclf quantize"):
        open_model(copy, "int8-cpu")
