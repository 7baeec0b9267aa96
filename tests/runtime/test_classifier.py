import json
import logging
import sys

import numpy as np
import pytest

from edgeclf_runtime.bundle import open_bundle
from edgeclf_runtime.classifier import UNKNOWN, Classifier, candidates, softmax
from edgeclf_runtime.errors import BackendError, BundleError, ImageError
from edgeclf_runtime.golden import golden_images, read_golden
from edgeclf_runtime.preprocess import Preprocessing
from edgeclf_runtime.runners.base import Runner

from .pictures import noise
from .sealing import replace_file, reseal


class Fixed(Runner):
    """A backend that always gives the same logits."""

    backend = "fixed"
    closed = 0

    def __init__(self, *logits):
        self.logits = np.array([logits], np.float32)

    def infer(self, batch):
        return self.logits

    def close(self):
        self.closed += 1


def classify(*logits, **options):
    return Classifier(Fixed(*logits), "abc", Preprocessing(8, 8), "model", **options).classify(noise(8, 8))


@pytest.fixture(scope="module")
def classifier(bundle):
    with Classifier.open(bundle, "fp32") as classifier:
        yield classifier


def test_softmax_sums_to_one_for_numbers_of_any_size():
    assert np.allclose(softmax([0.0, np.log(3)]), [0.25, 0.75])
    assert np.array_equal(softmax(np.array([[1e30, -1e30]], np.float32)), [[1, 0]])


def test_the_labels_come_best_first():
    result = classify(0, np.log(6), np.log(3))
    assert (result.label, round(result.confidence, 3)) == ("b", 0.6)
    assert [label for label, _ in result.top] == ["b", "c", "a"]


def test_equal_confidences_come_in_the_order_of_the_labels():
    assert [label for label, _ in classify(1, 1, 1).top] == ["a", "b", "c"]


def test_the_threshold_makes_the_label_unknown_and_keeps_the_confidence():
    result = classify(0, np.log(6), np.log(3), threshold=0.61)
    assert (result.label, round(result.confidence, 3), result.top[0][0]) == (UNKNOWN, 0.6, "b")
    assert classify(0, np.log(6), np.log(3), threshold=0.59).label == "b"


def test_the_temperature_softens_the_confidence():
    assert classify(0, 0, np.log(16), temperature=2.0).confidence == pytest.approx(4 / 6)


def test_more_labels_than_there_are_gives_all_of_them():
    assert len(classify(1, 2, 3, top_k=100).top) == 3
    assert len(classify(1, 2, 3, top_k=1).top) == 1


@pytest.mark.parametrize("wrong", ["nan", "inf", "-inf"])
def test_logits_that_are_not_finite_are_an_error_and_no_label(wrong):
    with pytest.raises(BackendError, match="model on fixed answered with numbers that are not finite"):
        classify(1, float(wrong), 3)


def test_the_result_is_json_with_every_stage(classifier, bundle):
    result = json.loads(json.dumps(classifier.classify(bundle / "golden" / "000.png").to_dict()))
    assert set(result["timings_ms"]) == {"preprocess", "inference", "postprocess"}
    assert result["top"][0] == {"label": result["label"], "confidence": result["confidence"]}
    assert (result["model"], result["backend"]) == ("fp32", "onnxruntime")


def test_a_path_and_its_pixels_give_what_the_host_expected(classifier, bundle):
    opened = open_bundle(bundle)
    facts = read_golden(opened)
    for number, pixels in enumerate(golden_images(opened)):
        name = facts["images"][number]
        expected = softmax(facts["logits"]["fp32"][number])
        for image in (bundle / name, str(bundle / name), pixels):
            result = classifier.classify(image)
            assert result.label == opened.labels[expected.argmax()]
            assert result.confidence == pytest.approx(expected.max(), abs=1e-3)


def test_what_is_no_image_is_an_image_error(classifier, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    for image in (tmp_path / "text.jpg", tmp_path / "gone.png", noise(8, 8)[:, :, 0]):
        with pytest.raises(ImageError):
            classifier.classify(image)


def test_the_first_model_for_the_machine_is_used(bundle):
    opened = open_bundle(bundle)
    with Classifier.open(opened, threads=1) as classifier:
        assert classifier.model == candidates(opened)[0][0].name


def test_a_model_that_fails_its_golden_images_is_passed_over_aloud(copied, caplog):
    reseal(copied, lambda manifest: first_for_every_machine(manifest).update(tolerance=-1.0))
    first, second = [model for model, _ in candidates(open_bundle(copied))][:2]
    with caplog.at_level(logging.WARNING), Classifier.open(copied) as classifier:
        assert classifier.model == second.name
    assert f"passed over {first.name} on onnxruntime: FAIL: " in caplog.text


def first_for_every_machine(manifest):
    first = manifest["models"][0]
    names = [model["name"] for model in manifest["models"]]
    manifest["order"] = {"default": names}
    return first


def test_where_no_model_runs_each_reason_is_told_once(copied, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError) as caught:
        Classifier.open(copied)
    message = str(caught.value)
    assert message.startswith("no model of copy.edge runs on this machine:\n  ")
    assert message.count("onnxruntime is not there for") == 1
    assert "-m pip install onnxruntime" in message
    assert all(model.name in message for model in open_bundle(copied).models)
    assert caplog.text == ""


def test_a_model_that_the_backend_cannot_load_is_told_with_the_backends_words(copied):
    replace_file(copied, "model.fp32.onnx", b"no model")
    with pytest.raises(BackendError, match=r"onnxruntime .* cannot load .*model\.fp32\.onnx"):
        Classifier.open(copied, "fp32")


def test_a_runner_that_fails_its_golden_images_is_closed(copied, monkeypatch):
    runners = []

    def open_fixed(backend, path, threads):
        runners.append(Fixed(1, 2, 3))
        return runners[-1]

    monkeypatch.setattr("edgeclf_runtime.classifier.open_runner", open_fixed)
    with pytest.raises(BackendError, match="FAIL: "):
        Classifier.open(copied)
    monkeypatch.setattr("edgeclf_runtime.classifier.check_golden", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Classifier.open(copied)
    assert [runner.closed for runner in runners] == [1] * len(runners)


def test_names_that_are_not_there_list_those_that_are(bundle):
    with pytest.raises(BundleError, match=r"holds no model 'fp8'; it holds .*fp32"):
        Classifier.open(bundle, "fp8")
    with pytest.raises(BackendError, match="no model here runs on the backend 'abacus'; use --backend onnxruntime"):
        Classifier.open(bundle, backend="abacus")
