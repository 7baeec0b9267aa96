"""The preparation of an imported model's images: what its file states, what is asked for, and what is refused."""

import json

import pytest
import torch

import edgeclf
from edgeclf.deployment.foreign import settings
from edgeclf.errors import DataError, ModelError, OptionError
from tests.support.foreign import LABELS, SETTINGS, SIZE, ULTRALYTICS, color_model
from tests.support.foreign_torch import Colors

MODEL_API = {
    "model_info model_type": "Classification",
    "model_info labels": "cat dog",
    "model_info mean_values": "0 0 0",
    "model_info scale_values": "255 255 255",
    "model_info resize_type": "crop",
}


# What the file states


def test_ultralytics_states_everything(imported, tmp_path):
    report = imported(color_model(tmp_path / "m.onnx", end="Softmax", props=ULTRALYTICS.items()), without=SETTINGS)
    assert (report.labels, report.accuracy) == (LABELS, 1.0)
    assert set(report.options["sources"].values()) == {"ultralytics' metadata", "the input's shape"}


def test_ultralytics_torchscript_states_everything(imported, tmp_path):
    path = tmp_path / "colors.torchscript"
    traced = torch.jit.trace(Colors().eval(), torch.zeros(1, 3, SIZE, SIZE))
    names = {"names": {0: "cat", 1: "dog"}, "imgsz": [SIZE, SIZE], "task": "classify"}
    traced.save(str(path), _extra_files={"config.txt": json.dumps(names)})
    assert imported(path, without=SETTINGS, label_names=LABELS).accuracy == 1


def test_model_api_states_all_but_the_color(imported, tmp_path):
    path = color_model(tmp_path / "m.onnx", props=MODEL_API.items())
    with pytest.raises(OptionError, match=r"add what is missing:\n  --color RGB .*or BGR") as refused:
        imported(path, without=SETTINGS)
    assert "--labels" not in str(refused.value)
    assert imported(path, without=SETTINGS, color="RGB").accuracy == 1


def test_timm_states_all_but_the_labels(imported):
    timm = pytest.importorskip("timm")
    network = timm.create_model("mobilenetv3_small_050", num_classes=2)
    report = imported(network, without=SETTINGS, data=None, label_names=LABELS)
    assert report.options["mean"] == [0.485, 0.456, 0.406]
    assert (report.options["size"], report.options["crop"]) == ([224, 224], 0.875)


def test_a_timm_config_beside_a_file_is_read(imported, tmp_path):
    config = tmp_path / "config.json"
    inner = {"input_size": [3, SIZE, SIZE], "mean": [0, 0, 0], "std": [1, 1, 1], "crop_pct": 0.9}
    config.write_text(json.dumps({"architecture": "x", "pretrained_cfg": inner, "label_names": list(LABELS)}))
    report = imported(color_model(tmp_path / "m.onnx"), without=SETTINGS, config=str(config))
    assert (report.accuracy, report.options["crop"]) == (1.0, 0.9)


@pytest.mark.parametrize("names", ["{0: 'cat'}" * 2, "{1: 'cat', 2: 'dog'}", "__import__('os')", "{" * 10000, ""])
def test_names_that_are_no_list_of_labels_are_asked_for(imported, tmp_path, names):
    path = color_model(tmp_path / "m.onnx", props={**ULTRALYTICS, "names": names}.items())
    with pytest.raises((OptionError, ModelError), match="--labels"):
        imported(path, without=SETTINGS)


@pytest.mark.parametrize(
    ("props", "said"),
    [({**ULTRALYTICS, "task": "detect"}, "the task 'detect'"), ({"model_info model_type": "SSD"}, "type 'SSD'")],
)
def test_a_model_for_another_task_is_refused(imported, tmp_path, props, said):
    with pytest.raises(ModelError, match=said):
        imported(color_model(tmp_path / "m.onnx", props=props.items()))


def test_senseless_metadata_is_asked_for(imported, tmp_path):
    props = {**MODEL_API, "model_info scale_values": "0 0 0", "model_info mean_values": "none"}
    with pytest.raises(OptionError, match=r"--mean M, .*\n  --std S"):
        imported(color_model(tmp_path / "m.onnx", props=props.items()), without=SETTINGS, color="RGB")


@pytest.mark.parametrize("size", [5000, 10**9])
def test_a_size_that_no_image_has_is_refused_before_memory_is_taken(imported, tmp_path, size):
    with pytest.raises(OptionError, match="1 to 4096 was expected"):
        imported(color_model(tmp_path / "m.onnx", size=size), data=None)


# What no file states


def test_all_that_is_missing_is_listed_at_once_with_how_to_give_it(imported, tmp_path):
    path = color_model(tmp_path / "m.onnx", size="S")
    with pytest.raises(OptionError, match="does not say how to prepare its images") as refused:
        imported(path, without=SETTINGS)
    text = str(refused.value)
    expected = ("labels", "size", "color", "range", "mean", "std", "resize")
    assert [f"--{name}" in text for name in expected] == [True] * len(expected)
    assert "--layout" not in text
    assert settings.USUAL in text


def test_missing_colors_and_normalization_are_measured_on_images(imported, tmp_path):
    path = color_model(tmp_path / "m.onnx", mean=0.0)
    with pytest.raises(OptionError, match=r"accuracy with the usual settings, on 80 images") as refused:
        imported(path, without=("color", "range", "mean", "std"))
    best = str(refused.value).partition("images of")[2].splitlines()[1]
    assert best.split()[:3] == ["100.0%", "--color", "RGB"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("cat\n\ndog\n", r"has an empty line \(line 2\)"),
        ("\n", "has no labels"),
        ("cat\ncat\n", "'cat' .* occurs twice"),
        ("cat\n", r"has 2 outputs, but there is 1 label \(.*labels.txt\).*--labels"),
        ("cat\ndog\ncow\n", "has 2 outputs, but there are 3 labels"),
        ("cat\nd\u202eog\n", "invisible character"),
    ],
)
def test_labels_that_cannot_be_the_models_are_refused(imported, tmp_path, labels, said):
    (tmp_path / "labels.txt").write_text(labels, encoding="utf-8")
    with pytest.raises((OptionError, ModelError, DataError), match=said):
        imported(color_model(tmp_path / "m.onnx"), ("label_names",), None, labels=str(tmp_path / "labels.txt"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_labels_may_be_saved_by_a_program_of_windows(imported, tmp_path, encoding):
    (tmp_path / "labels.txt").write_text("cat\r\ndog\r\n", encoding=encoding)
    report = imported(color_model(tmp_path / "m.onnx"), ("label_names",), None, labels=str(tmp_path / "labels.txt"))
    assert report.labels == ("cat", "dog")


def test_labels_in_other_letters_than_the_datas_are_asked_after(imported, tmp_path):
    said = r"it knows Cat, dog \('cat' may be 'Cat'\): write them alike, in --labels or in the data"
    with pytest.raises(DataError, match=said):
        imported(color_model(tmp_path / "m.onnx"), label_names=("Cat", "dog"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layout": "NHWC"}, "which is NCHW, but layout is NHWC"),
        ({"size": "64"}, "takes images of 32 x 32, but size is 64"),
    ],
)
def test_options_that_contradict_the_file_are_refused(imported, tmp_path, options, said):
    with pytest.raises(OptionError, match=said):
        imported(color_model(tmp_path / "m.onnx"), **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"color": "GRB"}, "color is 'GRB'; RGB, BGR was expected"),
        ({"range": "0..1"}, "range is '0..1'; 0-1, 0-255, -1..1"),
        ({"mean": "1,2"}, "mean is '1,2', 2 numbers; one, or three"),
        ({"mean": "nan"}, "mean is 'nan'"),
        ({"std": "0"}, "std is '0'"),
        ({"mean": "imagenet", "range": "0-255"}, "values are for --range 0-1"),
        ({"size": "10x20x30"}, "size is '10x20x30'"),
        ({"crop": 2.0}, "crop is 2.0"),
    ],
)
def test_options_without_a_meaning_are_refused(options, said):
    with pytest.raises(OptionError, match=said):
        edgeclf.ImportOptions(**options)
