"""Classifying image files."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

import edgeclf
from edgeclf.errors import ImageError, OptionError
from tests.support.photos import picture


@pytest.fixture
def model(run):
    return run / "model.fp32.onnx"


def test_each_image_gets_its_label_and_the_likeliest_others(model, digits):
    images = [digits / label / "000.png" for label in ("3", "8")]
    predictions = edgeclf.predict(model, images, top_k=2)
    assert [prediction.image for prediction in predictions] == [str(image) for image in images]
    assert [prediction.result.label for prediction in predictions] == ["3", "8"]
    assert all(len(prediction.result.top) == 2 for prediction in predictions)


def test_photographs_of_phones_are_read_by_the_library_that_reads_them_in_training(
    model, digits, tmp_path, monkeypatch
):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    heif.from_pillow(Image.open(digits / "3" / "000.png").convert("RGB")).save(tmp_path / "IMG_1.HEIC", quality=100)
    [found] = edgeclf.predict(model, tmp_path)
    assert (found.image, found.result.label) == (str(tmp_path / "IMG_1.HEIC"), "3")
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"reading HEIC needs pillow-heif; install it"):
        edgeclf.predict(model, tmp_path / "IMG_1.HEIC")


def test_a_run_that_was_not_exported_predicts_by_a_temporary_file(own_run, digits):
    (own_run / "model.fp32.onnx").unlink()
    before = sorted(own_run.iterdir())
    [found] = edgeclf.predict(own_run, digits / "3" / "000.png", top_k=2, threshold=0.01)
    assert (found.result.model, found.result.backend, len(found.result.top)) == ("fp32", "onnxruntime", 2)
    [torch] = edgeclf.predict(own_run, digits / "3" / "000.png", name="torch")
    assert torch.result.backend == "torch"
    assert found.result.confidence == pytest.approx(torch.result.confidence, abs=1e-3)
    assert sorted(own_run.iterdir()) == before


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


def test_the_distance_that_a_bundle_gives_is_in_the_text_the_json_and_the_predictions(bundle, digits, tmp_path):
    [prediction] = edgeclf.predict(bundle, digits / "3" / "000.png", name="fp32", predictions=tmp_path / "p.csv")
    distance = prediction.result.distance
    assert str(prediction).endswith(f"  distance {distance:.1f}")
    assert json.loads(prediction.to_json())["distance"] == pytest.approx(distance, abs=1e-4)
    [row] = csv.DictReader((tmp_path / "p.csv").read_text().splitlines())
    assert (row["reason"], float(row["distance"])) == ("", pytest.approx(distance, abs=1e-4))


def test_the_labels_that_an_image_may_have_are_in_the_text(model, digits):
    [prediction] = edgeclf.predict(model, digits / "3" / "000.png")
    for labels, text in ((("3", "8"), "3, 8"), ((), "none")):
        shown = replace(prediction, result=prediction.result._replace(label_set=labels))
        assert str(shown).endswith(f"  possible: {text}")


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


@pytest.fixture
def photo(tmp_path):
    """A color photograph whose channels differ, 90 x 70."""
    path = tmp_path / "photo.png"
    assert cv2.imwrite(str(path), picture(5, 90, 70) // np.array([1, 2, 4], np.uint8))
    return path


def confidences(predictions):
    return [prediction.result.confidences.tolist() for prediction in predictions]


@pytest.mark.parametrize("name", ["torch", "fp32", "int8-cpu"])
def test_an_array_or_a_pillow_image_has_exactly_the_result_of_its_file(run, photo, name):
    bgr = cv2.imread(str(photo))
    rgb = np.asarray(Image.open(photo))
    expected = confidences(edgeclf.predict(run, photo, name=name))
    assert confidences(edgeclf.predict(run, Image.open(photo), name=name)) == expected
    assert confidences(edgeclf.predict(run, bgr, name=name, order="bgr")) == expected
    assert confidences(edgeclf.predict(run, rgb, name=name, order="rgb")) == expected
    assert confidences(edgeclf.predict(run, [rgb, rgb[:, ::1]], name=name, order="rgb")) == 2 * expected
    assert confidences(edgeclf.predict(run, np.stack([rgb, rgb]), name=name, order="rgb")) == 2 * expected
    assert confidences(edgeclf.predict(run, bgr, name=name, order="rgb")) != expected


def test_one_path_is_one_image(model, digits):
    for image in (str(digits / "3" / "000.png"), digits / "3" / "000.png"):
        assert [found.image for found in edgeclf.predict(model, image)] == [str(image)]
    assert len(edgeclf.predict(model, digits / "3")) == 60


def test_a_column_of_paths_is_several_images(model, digits):
    paths = [str(digits / "3" / "000.png"), str(digits / "8" / "000.png")]
    assert [found.image for found in edgeclf.predict(model, np.array(paths))] == paths
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    assert [found.image for found in edgeclf.predict(model, pandas.Series(paths))] == paths


def test_images_without_a_name_have_their_index(model, photo):
    image = Image.open(photo)
    assert [found.image for found in edgeclf.predict(model, image)] == ["image"]
    names = [found.image for found in edgeclf.predict(model, [image, photo, np.asarray(image)], order="rgb")]
    assert names == ["images[0]", str(photo), "images[2]"]


def test_the_order_of_an_arrays_channels_must_be_given(model, photo):
    color = cv2.imread(str(photo))
    with pytest.raises(
        OptionError, match=r'image: an array with 3 channels, whose order .* order="rgb" .* order="bgr"'
    ):
        edgeclf.predict(model, color)
    with pytest.raises(OptionError, match=r"images\[1\]: an array with 4 channels"):
        edgeclf.predict(model, [photo, np.dstack([color, color[:, :, 0]])])
    assert len(edgeclf.predict(model, color[:, :, 0])) == 1
    with pytest.raises(OptionError, match="order is 'RGB'"):
        edgeclf.predict(model, color, order="RGB")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((9, 8, 3), np.float32), r"found float32 \[9, 8, 3\], with values from 0 to 0: \(image \* 255\)"),
        (np.zeros((3, 9, 8), np.uint8), r"channels come last: image\.transpose\(1, 2, 0\)"),
        (np.zeros((0, 8, 3), np.uint8), "which is empty"),
        (np.full((9, 8, 3), 999, np.uint16), r"found uint16 \[9, 8, 3\], with values from 999 to 999: \(image >> 2\)"),
        (np.zeros((9, 8, 2), np.uint8), r"found uint8 \[9, 8, 2\]"),
        (np.zeros(9, np.uint8), r"found uint8 \[9\]"),
        (None, r"cv2\.imread\(\) returns for a file"),
        (b"\xff\xd8", "found bytes"),
        (7, "found int"),
    ],
    ids=["floats", "channels first", "empty", "16 bits", "two channels", "a row", "nothing", "bytes", "a number"],
)
def test_what_is_no_image_is_refused_with_what_was_found(model, image, message):
    with pytest.raises(ImageError, match=f"^image: .*{message}"):
        edgeclf.predict(model, image, order="rgb")
    with pytest.raises(ImageError, match=rf"^images\[0\]: .*{message}"):
        edgeclf.predict(model, [image], order="rgb")


def test_a_tensor_is_refused_as_a_whole(model):
    import torch

    with pytest.raises(ImageError, match=r"image: .*found a Tensor of torch: convert it to numpy on the CPU"):
        edgeclf.predict(model, torch.zeros(3, 9, 8))
