"""The golden images of a bundle, and the differences that they allow."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper

from edgeclf.deployment import golden
from edgeclf.deployment.golden import as_frame, tinted, tolerances_of
from edgeclf_runtime.bundle.open_bundle import Model, Tolerance, open_bundle
from edgeclf_runtime.classify.golden import compare_logits, golden_images, read_golden
from edgeclf_runtime.images.preprocess import Preprocessing

DRAW = np.random.RandomState(0)
FP32 = DRAW.randn(16, 10) * 3
INT8 = FP32 + DRAW.randn(16, 10) * 0.2


LIMITS = {backend: Tolerance(**limits) for backend, limits in tolerances_of("int8-cpu", FP32, INT8, 0.1).items()}
MODEL = Model("int8-cpu", "model.int8-cpu.onnx", "int8", ("onnxruntime", "openvino"), 1.0, 0.0, LIMITS, {})


def check(logits, backend="openvino"):
    return compare_logits(MODEL, backend, INT8, logits)


def test_another_library_may_be_as_far_from_the_host_as_the_host_from_fp32():
    other = FP32 + np.random.RandomState(1).randn(16, 10) * 0.2
    report = check(INT8 + (other - INT8))
    assert report.passed
    assert report.labels_wrong == 0


def test_the_hosts_own_library_is_held_tighter():
    found = INT8 + np.random.RandomState(2).randn(16, 10) * 0.25
    assert check(found).passed
    assert not check(found, "onnxruntime").passed


@pytest.mark.parametrize(
    "wrong",
    [
        lambda logits: logits + 0.5,
        lambda logits: logits * 1.3,
        lambda logits: logits[:, ::-1],
        lambda logits: np.roll(logits, 1, 0),
        lambda logits: logits * np.nan,
    ],
    ids=["shifted", "scaled", "labels reversed", "images exchanged", "no numbers"],
)
def test_logits_that_are_further_off_than_by_rounding_fail(wrong):
    assert not check(wrong(INT8)).passed


def test_a_label_that_the_host_is_sure_of_must_be_the_same_even_where_all_else_is():
    found = INT8.copy()
    margin = np.sort(INT8, 1)[:, -1] - np.sort(INT8, 1)[:, -2]
    sure = int(margin.argmax())
    first, second = np.argsort(INT8[sure])[::-1][:2]
    found[sure, [first, second]] = found[sure, [second, first]]
    model = MODEL._replace(tolerances={"default": Tolerance(99.0, 0.2, 99.0)})
    report = compare_logits(model, "openvino", INT8, found)
    assert (report.labels_agree, report.labels_wrong, report.passed) == (15, 1, False)
    assert "15 of 16 golden labels agree, 1 of the others clearly wrong" in str(report)


def test_a_label_within_rounding_may_change():
    close = np.zeros((16, 10))
    close[:, 3] = 0.05
    found = close.copy()
    found[:, 4] = 0.1
    report = compare_logits(MODEL, "openvino", close, found)
    assert (report.labels_agree, report.labels_wrong, report.passed) == (0, 0, True)


def test_a_float_model_is_held_to_a_thousandth_and_int8_to_what_it_loses(bundle):
    tolerances = {model.name: model.tolerance("onnxruntime").mean for model in open_bundle(bundle).models}
    assert tolerances["fp32"] < 1e-3
    assert tolerances["fp32"] < tolerances["fp16"] < tolerances["int8-cpu"]


def test_half_of_the_images_are_in_color_even_where_photographs_are_gray(bundle):
    opened = open_bundle(bundle)
    images = golden_images(opened)
    assert len(images) == len(read_golden(opened)["images"]) == 4
    colored = [np.ptp(image.astype(int), axis=2).max() > 20 for image in images]
    assert colored == [False, False, True, True]


def test_a_tinted_picture_keeps_its_shape_and_gets_no_lighter():
    image = np.random.RandomState(3).randint(0, 256, (5, 7, 3)).astype(np.uint8)
    assert tinted(image).shape == image.shape
    assert np.array_equal(tinted(image)[:, :, 2], image[:, :, 2])
    assert (tinted(image) <= image).all()


def test_every_second_image_must_be_resized_and_cropped_even_where_photographs_are_as_the_model_wants_them(bundle):
    opened = open_bundle(bundle)
    side = opened.preprocessing.height
    shapes = [image.shape[:2] for image in golden_images(opened)]
    assert shapes[0::2] == [(side, side)] * len(shapes[0::2])
    # The larger one is halved too.
    assert shapes[1] == (96, 128)
    assert shapes[3] == (160, 214)


@pytest.mark.parametrize("shape", [(64, 64), (300, 300), (224, 200), (90, 30)])
def test_a_frame_is_wider_than_high_with_the_same_middle(shape):
    image = np.random.RandomState(4).randint(0, 256, (*shape, 3)).astype(np.uint8)
    frame = as_frame(image, Preprocessing(64, 64), 1.5)
    assert min(frame.shape[:2]) >= 96
    if shape == (300, 300):
        assert frame.shape == (300, 400, 3)
        assert np.array_equal(frame[:, 50:350], image)
    # One that is high is cropped anyway.
    assert (frame.shape[1] > frame.shape[0]) == (shape != (90, 30))


def test_what_two_versions_of_one_library_compute_in_other_ways_has_no_limit_of_its_own(tmp_path):
    assert set(LIMITS) == {"default", "onnxruntime"}
    assert set(tolerances_of("int8-cpu", FP32, INT8, 0.1, same_kernels=False)) == {"default"}
    run = SimpleNamespace(file=lambda name: tmp_path / name)
    for operator, same in (("Relu", True), ("HardSigmoid", False)):
        graph = helper.make_graph([helper.make_node(operator, ["image"], ["logits"])], "graph", [], [])
        onnx.save(helper.make_model(graph), tmp_path / "model.int8-cpu.onnx")
        assert golden._has_same_kernels(run, "int8-cpu") == same
    assert not golden._has_same_kernels(run, "int8-arm")


def test_the_labels_stand_beside_the_logits(bundle):
    opened = open_bundle(bundle)
    assert read_golden(opened)["labels"] == list(opened.labels)
