"""Classifying image files."""

import csv
import json

import cv2
import pytest

import edgeclf
from edgeclf.errors import ImageError


@pytest.fixture
def model(run):
    return run / "model.fp32.onnx"


def test_each_image_gets_its_label_and_the_likeliest_others(model, digits):
    images = [digits / label / "000.png" for label in ("3", "8")]
    predictions = edgeclf.predict(model, images, top_k=2)
    assert [prediction.image for prediction in predictions] == [str(image) for image in images]
    assert [prediction.result.label for prediction in predictions] == ["3", "8"]
    assert all(len(prediction.result.top) == 2 for prediction in predictions)


def test_json_holds_image_label_confidences_and_timings(model, digits):
    [prediction] = edgeclf.predict(model, [digits / "3" / "000.png"])
    line = json.loads(prediction.to_json())
    assert line["image"].endswith("3/000.png")
    assert sum(entry["confidence"] for entry in line["top"]) == pytest.approx(1, abs=1e-5)
    assert set(line["timings_ms"]) == {"preprocess", "inference", "postprocess"}
    assert (line["model"], line["backend"]) == ("fp32", "onnxruntime")


def test_below_the_threshold_the_label_is_unknown(model, digits):
    [prediction] = edgeclf.predict(model, [digits / "3" / "000.png"], threshold=1.0)
    assert prediction.result.label == "unknown"
    assert f"unknown ({prediction.result.top[0][0]} {prediction.result.confidence * 100:.1f} %)" in str(prediction)
    assert prediction.result.top[0][0] == "3"


def test_a_photograph_of_any_size_and_shape_is_taken(model, digits, tmp_path):
    picture = cv2.resize(cv2.imread(str(digits / "3" / "000.png")), (333, 777))
    cv2.imwrite(str(tmp_path / "tall.webp"), picture)
    assert len(edgeclf.predict(model, [tmp_path / "tall.webp"])) == 1


def test_a_folder_means_its_images_in_natural_order(model, digits, tmp_path):
    for name in ("10.png", "9.png"):
        (tmp_path / name).write_bytes((digits / "3" / "000.png").read_bytes())
    assert [prediction.image for prediction in edgeclf.predict(model, [tmp_path])] == [
        str(tmp_path / "9.png"),
        str(tmp_path / "10.png"),
    ]
    with pytest.raises(ImageError, match="holds no image"):
        edgeclf.predict(model, [tmp_path / "*.jpg"])


def test_the_first_image_that_cannot_be_decoded_is_named(model, digits, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"bad\.jpg: not an image"):
        edgeclf.predict(model, [digits / "3" / "000.png", tmp_path / "bad.jpg"])


def test_the_command_writes_predictions_and_leaves_out_what_is_no_image(command, model, digits, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    images = [digits / "3" / "000.png", tmp_path / "bad.jpg", digits / "8" / "000.png"]
    arguments = ["predict", model, *images, "--predictions", tmp_path / "p.csv"]
    assert command(*arguments)[0] == 1
    rows = list(csv.reader((tmp_path / "p.csv").read_text().splitlines()))
    assert [row[:3] for row in rows[1:]] == [[str(images[0]), "", "3"], [str(images[2]), "", "8"]]
    code, _, err = command(*arguments)
    assert (code, "p.csv exists" in err) == (1, True)


def test_the_command_classifies_the_files_after_one_that_is_no_image(command, model, digits, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    good = digits / "3" / "000.png"
    code, out, err = command("predict", model, good, tmp_path / "bad.jpg", good)
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == [str(good), str(good)]
    assert f"error: {tmp_path / 'bad.jpg'}: not an image" in err
