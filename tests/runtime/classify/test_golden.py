import json
import platform

import numpy as np
import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.golden import check_golden, golden_images, project, read_golden
from edgeclf_runtime.errors import BackendError, BundleError
from edgeclf_runtime.images.preprocess import as_batch, preprocess
from edgeclf_runtime.runners import open_runner
from edgeclf_runtime.runners.base import Outputs, Runner
from tests.support.sealing import before_features, replace_file, reseal


class Altered(Runner):
    """A model's runner that alters its input, logits or features."""

    backend = "altered"

    def __init__(self, runner, logits=None, batch=None, features=None):
        self.runner = runner
        self.logits = logits or (lambda found: found)
        self.batch = batch or (lambda given: given)
        self.features = features or (lambda found: found)

    def infer_outputs(self, batch):
        logits, features = self.runner.infer_outputs(self.batch(batch))
        return Outputs(self.logits(logits), self.features(features))


@pytest.fixture(scope="module")
def opened(bundle):
    return open_bundle(bundle)


@pytest.fixture(scope="module")
def runner(opened):
    with open_runner("onnxruntime", opened.file(opened.model("fp32").file)) as runner:
        yield runner


def check(opened, runner):
    return check_golden(opened, opened.model("fp32"), runner)


def test_every_model_gives_the_logits_that_the_host_saw(opened):
    # An Arm file's 8-bit products saturate on an x86 processor without VNNI.
    for model in (model for model in opened.in_order(platform.machine()) if "onnxruntime" in model.backends):
        with open_runner("onnxruntime", opened.file(model.file), threads=1) as runner:
            report = check_golden(opened, model, runner)
        assert report.passed, report
        assert report.labels_agree == report.images == len(golden_images(opened))
        assert str(report).startswith(f"pass: {model.name} on onnxruntime: ")


def test_the_float_model_gives_them_to_a_thousandth(opened, runner):
    assert check(opened, runner).largest_difference < 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        lambda logits: logits + 0.01,
        lambda logits: logits[:, ::-1],
        lambda logits: logits * np.float32("nan"),
        lambda logits: logits * np.float32("inf"),
    ],
    ids=["shifted", "reversed", "nan", "infinite"],
)
def test_wrong_logits_fail(opened, runner, wrong):
    report = check(opened, Altered(runner, logits=wrong))
    assert not report.passed
    assert str(report).startswith("FAIL: fp32 on altered: ")
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["passed"] is False


@pytest.mark.parametrize(
    "wrong",
    [
        lambda features: features * 1.01,
        lambda features: features[:, ::-1],
        lambda features: features * 0,
        lambda features: features * np.float32("nan"),
    ],
    ids=["scaled", "reversed", "zero", "nan"],
)
def test_wrong_features_fail_even_beside_right_logits(opened, runner, wrong):
    report = check(opened, Altered(runner, features=wrong))
    assert not report.passed
    assert ", features on average by " in str(report)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["passed"] is False


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda features: features[:, 1:], r"returned features of shape \[1, {less}\]; \[1, {count}\] was expected"),
        (lambda features: None, r"returned no features; features of shape \[1, {count}\] were expected"),
    ],
)
def test_features_of_another_shape_or_none_are_an_error(opened, runner, wrong, message):
    count = opened.model("fp32").features
    with pytest.raises(BackendError, match=message.format(less=count - 1, count=count)):
        check(opened, Altered(runner, features=wrong))


def test_a_bundle_without_features_is_checked_by_its_logits(copied, runner):
    path = copied / "golden" / "expected.json"
    golden = json.loads(path.read_text())
    del golden["features"]
    replace_file(copied, "golden/expected.json", json.dumps(golden).encode())

    reseal(copied, before_features)
    report = check(open_bundle(copied), Altered(runner, features=lambda features: None))
    assert report.passed
    assert report.features_difference is None


def test_projections_have_the_same_signs_on_every_machine():
    projections = project(np.eye(4, dtype=np.float32))
    assert (np.abs(projections) == 0.5).all()
    assert bytes(np.packbits(projections < 0)).hex() == "5fe9c32c97bcaa8c"


def test_pixels_of_another_scale_or_upside_down_fail(opened, runner):
    assert not check(opened, Altered(runner, batch=lambda batch: batch / 255)).passed
    assert not check(opened, Altered(runner, batch=lambda batch: batch[:, ::-1])).passed


def test_one_bit_in_every_pixel_is_more_than_the_tolerance_allows(opened, runner):
    # This is why resizing must give the same bits everywhere.
    assert check(opened, Altered(runner, batch=lambda batch: np.minimum(batch + 1, 255))).largest_difference > 1e-3


@pytest.mark.parametrize("wrong", [lambda logits: logits[:, 1:], lambda logits: logits[0]], ids=["short", "flat"])
def test_logits_of_another_shape_are_an_error(opened, runner, wrong):
    with pytest.raises(BackendError, match="fp32 on altered returned logits of shape"):
        check(opened, Altered(runner, logits=wrong))


def test_the_images_are_real_and_named_beside_one_row_of_logits_each(opened):
    facts = read_golden(opened)
    assert all(name.startswith("golden/") for name in facts["images"])
    for model in opened.models:
        assert np.shape(facts["logits"][model.name]) == (len(facts["images"]), len(opened.labels))
    assert all(image.std() > 1 for image in golden_images(opened))


def test_a_batch_of_all_images_gives_the_rows_of_each(opened, runner):
    batch = as_batch([preprocess(image, opened.preprocessing) for image in golden_images(opened)])
    assert np.allclose(runner.infer(batch), read_golden(opened)["logits"]["fp32"], atol=1e-3)


@pytest.mark.parametrize("name", ["fp32", "int8-cpu"])
@pytest.mark.parametrize(
    "wrong", [{"resize": "stretch"}, {"resize": "letterbox"}, {"crop": 0.875}, {"color": "BGR"}], ids=str
)
def test_another_resize_crop_or_color_order_fails(opened, name, wrong):
    other = opened._replace(preprocessing=opened.preprocessing._replace(**wrong))
    with open_runner("onnxruntime", opened.file(opened.model(name).file), threads=1) as runner:
        assert check_golden(opened, opened.model(name), runner).passed
        assert not check_golden(other, opened.model(name), runner).passed


def test_another_interpolation_fails(opened, monkeypatch):
    import cv2

    resize = cv2.resize
    with open_runner("onnxruntime", opened.file(opened.model("fp32").file), threads=1) as runner:
        monkeypatch.setattr(cv2, "resize", lambda image, size, interpolation: resize(image, size, interpolation=0))
        assert not check_golden(opened, opened.model("fp32"), runner).passed


def test_labels_in_another_order_than_the_logits_are_refused(copied):
    def move(manifest):
        manifest["labels"].append(manifest["labels"].pop(0))

    reseal(copied, move)
    moved = open_bundle(copied)
    with pytest.raises(BundleError, match=r"expected.json: label 0 is '3' in this file and '5' in the manifest; make"):
        read_golden(moved)


def test_golden_images_without_labels_come_from_an_earlier_bundle(copied):
    path = copied / "golden" / "expected.json"
    golden = json.loads(path.read_text())
    del golden["labels"]
    replace_file(copied, "golden/expected.json", json.dumps(golden).encode())
    assert "labels" not in read_golden(open_bundle(copied))
