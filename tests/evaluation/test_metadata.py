import ast
import json

import cv2
import onnx
import pytest

from edgeclf import OptionError, import_model, read_run
from edgeclf.deployment.golden import tinted
from edgeclf.evaluation.metadata import METADATA_KEY, model_metadata
from edgeclf.evaluation.open_model import open_model
from edgeclf.training.runs import Run
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner


@pytest.fixture(scope="module")
def metadata(run):
    with OnnxRuntimeRunner(run / "model.fp32.onnx") as runner:
        return runner.metadata


def of(tmp_path, labels, **preprocessing):
    """The metadata of a run."""
    spec = Preprocessing(64, 48, **preprocessing)
    facts = {"labels": labels, "preprocessing": spec._asdict(), "data": {"name": "x", "split": None}}
    return model_metadata(Run(tmp_path, facts), "fp32")


def test_ultralytics_finds_names_task_and_size(metadata):
    """As ultralytics.nn.backends.base.apply_metadata reads them."""
    assert ast.literal_eval(metadata["names"]) == {0: "3", 1: "5", 2: "8"}
    assert ast.literal_eval(metadata["imgsz"]) == [64, 64]
    assert (metadata["task"], int(metadata["stride"]), int(metadata["channels"])) == ("classify", 1, 3)


def test_model_api_finds_labels_and_that_nothing_is_left_to_normalize(metadata):
    info = {key.split()[1]: value for key, value in metadata.items() if key.startswith("model_info ")}
    assert (info["model_type"], info["labels"].split()) == ("Classification", ["3", "5", "8"])
    assert (info["mean_values"], info["scale_values"]) == ("0.0 0.0 0.0", "1.0 1.0 1.0")
    assert (info["reverse_input_channels"], info["resize_type"]) == ("True", "crop")


def test_each_resize_has_the_name_that_model_api_gives_it(tmp_path):
    found = {mode: of(tmp_path, ["a"], resize=mode)["model_info resize_type"] for mode in ("stretch", "letterbox")}
    assert found == {"stretch": "standard", "letterbox": "fit_to_window_letterbox"}
    assert of(tmp_path, ["a"], color="BGR")["model_info reverse_input_channels"] == "False"


def test_labels_with_spaces_and_quotes_stay_as_many_as_there_are_logits(tmp_path):
    labels = ["red  fox", "it's", "\u00fc"]
    found = of(tmp_path, labels)
    assert ast.literal_eval(found["names"]) == dict(enumerate(labels))
    assert found["model_info labels"].split() == ["red_fox", "it's", "\u00fc"]


def test_our_own_file_is_imported_without_an_option(run, digits, tmp_path):
    """ultralytics' metadata means pixels from 0 to 1, which this file does not take."""
    report = import_model(run / "model.fp32.onnx", tmp_path / "again", data=digits)
    assert set(report.options["sources"].values()) == {"edgeclf's metadata", "the input's shape"}
    assert (report.labels, report.options["range"]) == (("3", "5", "8"), "0-255")
    assert report.accuracy > 0.8


def test_damaged_metadata_of_ours_is_not_replaced_by_what_others_read(run, tmp_path):
    model = onnx.load(run / "model.fp32.onnx")
    props = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**props, METADATA_KEY: json.dumps({"labels": 1})})
    onnx.save(model, tmp_path / "damaged.onnx")
    with pytest.raises(OptionError, match=r"does not say how to prepare its images"):
        import_model(tmp_path / "damaged.onnx", tmp_path / "again")


@pytest.mark.slow
def test_model_api_gives_our_labels(run):
    pytest.importorskip("model_api", reason="it is not installed: python3 -m pip install openvino-model-api")
    from model_api.adapters import OpenvinoAdapter
    from model_api.models import ClassificationModel
    from openvino import Core

    path = str(run / "model.fp32.onnx")
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    theirs = ClassificationModel.create_model(OpenvinoAdapter(Core(), path, device="CPU", plugin_config=options))
    with open_model(path) as ours:
        for sample in read_run(run).dataset().split("test"):
            picture = tinted(cv2.imread(str(sample.path)))
            expected, (found,) = ours.classifier.classify(picture), theirs(picture).top_labels
            assert (found.name, found.confidence) == (expected.label, pytest.approx(expected.confidence, abs=1e-3))


@pytest.mark.slow
def test_ultralytics_reads_the_labels_and_refuses_to_predict_with_other_pixels(run, digits, tmp_path, monkeypatch):
    """It gives every model NCHW with values 0 to 1: an answer would be wrong."""
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    ultralytics = pytest.importorskip("ultralytics", reason="it is not installed: python3 -m pip install ultralytics")
    model = ultralytics.YOLO(run / "model.fp32.onnx", task="classify")
    assert model.names == {0: "3", 1: "5", 2: "8"}
    with pytest.raises(Exception, match=r"Got: 3 Expected: 64"):
        model.predict(digits / "3" / "000.png", imgsz=64, verbose=False)
