"""Files that the host reads back: every wrong field is reported in one sentence, without a traceback."""

import json
import shutil

import onnx
import pytest

from edgeclf.calibration.sets import CalibrationSet
from edgeclf.data.datasets import load_dataset
from edgeclf.errors import DataError, EdgeclfError, ModelError
from edgeclf.evaluation.open_model import open_model
from edgeclf.training.runs import read_run

VALUES = (None, -1, 1e300, "", "\x1b[31m", [], {}, [{}], "x" * 5000)


def places(value, where=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*where, key)
        yield from places(item, (*where, key))


def changed(content, where, value):
    content = json.loads(json.dumps(content))
    parent = content
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = value
    return content


def refusal(function):
    """The message of a ModelError, or "" without one; anything else is a traceback, and fails."""
    try:
        function()
    except ModelError as error:
        return str(error)
    return ""


def one_sentence(error):
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert "Error(" not in str(error.value)


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def test_any_wrong_field_of_a_run_is_refused_or_harmless(copy):
    content = json.loads((copy / "run.json").read_text())
    # Fields that are only kept for the record may hold anything.
    recorded = {("metrics",), ("data", "findings")} | {("options", name) for name in content["options"]}
    for where in places(content):
        for value in VALUES:
            (copy / "run.json").write_text(json.dumps(changed(content, where, value)))
            if where in recorded or where[:1] in recorded:
                continue
            message = refusal(lambda: read_run(copy))
            assert "\n" not in message
            assert "\x1b" not in message


@pytest.mark.parametrize(
    "where", [("labels",), ("labels", 1), ("preprocessing", "height"), ("data", "root"), ("data", "split")]
)
@pytest.mark.parametrize("value", [-1, [{}], "\x1b[31m", "x" * 5000])
def test_a_wrong_field_of_a_run_is_refused(copy, where, value):
    content = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(changed(content, where, value)))
    with pytest.raises(ModelError, match=r"run\.json is damaged .*; train again") as error:
        read_run(copy)
    one_sentence(error)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("path,label", "path,lable", "its columns are"),
        (",train,", ",trian,", "the split is 'trian'"),
        (",train,", ",train", "cells|sha256"),
        ("3/000.png,3,", "3/000.png,9,", "the label is '9'; one of the run's labels was expected"),
        ("3/000.png,3,", ",3,", "the path is empty"),
        ("3/000.png,3,", "3/000\0.png,3,", "zero byte|line contains NUL"),
        ("3/000.png,3,", '"3/000.png,3,', "unexpected end of data"),
    ],
)
def test_a_wrong_line_of_a_split_is_named(copy, old, new, reason):
    file = copy / "split.csv"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(ModelError, match=rf"split\.csv is damaged \(.*({reason})") as error:
        read_run(copy).dataset()
    one_sentence(error)


def test_a_split_that_is_no_text_is_refused(copy):
    (copy / "split.csv").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ModelError, match=r"split\.csv is damaged"):
        read_run(copy).dataset()


@pytest.mark.parametrize("field", ["source", "split", "rule", "size", "seed"])
@pytest.mark.parametrize("value", [[], {}, -1, "\x1b"])
def test_a_wrong_field_of_a_recipe_is_refused_or_harmless(digits, tmp_path, field, value):
    CalibrationSet.select(load_dataset(digits), 5).save(tmp_path / "set")
    recipe = json.loads((tmp_path / "set" / "recipe.json").read_text())
    (tmp_path / "set" / "recipe.json").write_text(json.dumps({**recipe, field: value}))
    if (field, value) == ("seed", -1):
        CalibrationSet.load(tmp_path / "set")
        return
    with pytest.raises(DataError, match=r"is not a calibration set") as error:
        CalibrationSet.load(tmp_path / "set")
    one_sentence(error)


@pytest.mark.parametrize(
    "line", ["", "0123  3/000.png", "0" * 64 + " 3/000.png", "g" * 64 + "  3/000.png", "\xff" * 70]
)
def test_a_wrong_line_of_a_calibration_set_is_named(digits, tmp_path, line):
    CalibrationSet.select(load_dataset(digits), 5).save(tmp_path / "set")
    (tmp_path / "set" / "images.sha256").write_text(line, encoding="latin-1")
    with pytest.raises(DataError, match=r"is not a calibration set") as error:
        CalibrationSet.load(tmp_path / "set")
    one_sentence(error)


@pytest.mark.parametrize(
    "metadata", ["", "[]", "{", '{"labels": []}', '{"labels": NaN}', "[" * 5000, '"' + "\x1b" + '"']
)
def test_metadata_of_an_onnx_file_that_is_not_ours_is_one_sentence(run, tmp_path, metadata):
    model = onnx.load(run / "model.fp32.onnx")
    onnx.helper.set_model_props(model, {"edgeclf": metadata})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(
        ModelError, match=r"has no valid metadata about its labels and preprocessing \(.*edgeclf export RUN"
    ):
        open_model(tmp_path / "model.onnx")


def test_an_onnx_file_with_external_data_is_refused(run, tmp_path):
    model = onnx.load(run / "model.fp32.onnx")
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(EdgeclfError, match="keeps data in another file"):
        open_model(tmp_path / "model.onnx")


@pytest.mark.slow
def test_a_damaged_quantization_report_is_one_sentence(run, tmp_path):
    import edgeclf

    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "quantization.json").write_text('{"calibration_images": "many"}')
    with pytest.raises(ModelError, match=r"quantization\.json is damaged .*edgeclf quantize"):
        edgeclf.bundle(copy, tmp_path / "x.edge")
