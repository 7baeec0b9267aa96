import json
import threading

import numpy as np
import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.decision import softmax
from edgeclf_runtime.classify.golden import golden_images, read_golden
from edgeclf_runtime.classify.known_images import KnownImages
from edgeclf_runtime.classify.rejection import Rejection
from edgeclf_runtime.errors import BackendError, ImageError, OptionError
from edgeclf_runtime.fake import FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess
from edgeclf_runtime.results import UNKNOWN
from tests.runtime.classify.test_known_images import arrays
from tests.support.pictures import BLUE, GREEN, RED, YELLOW, noise, quarters


def fixed(*logits, **options):
    return Classifier(FakeRunner(logits), options.pop("labels", "abc"), Preprocessing(8, 8), "model", **options)


def classify(*logits, **options):
    return fixed(*logits, **options).classify(noise(8, 8))


@pytest.fixture(scope="module")
def classifier(bundle):
    with Classifier.open(bundle, "fp32") as classifier:
        yield classifier


def test_the_threshold_makes_the_label_unknown_and_keeps_the_confidence():
    result = classify(0, np.log(6), np.log(3), threshold=0.61)
    assert (result.label, round(result.confidence, 3), result.top[0][0]) == (UNKNOWN, 0.6, "b")
    assert classify(0, np.log(6), np.log(3), threshold=0.59).label == "b"


def test_the_models_temperature_softens_the_confidence():
    assert classify(0, 0, np.log(16), temperature=2.0).confidence == pytest.approx(4 / 6)


@pytest.mark.parametrize("wrong", ["nan", "inf", "-inf"])
def test_logits_that_are_not_finite_are_an_error_and_no_label(wrong):
    with pytest.raises(BackendError, match="model on fake produced non-finite logits"):
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


def test_a_file_that_is_not_an_image_is_an_image_error(classifier, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    for image in (tmp_path / "text.jpg", tmp_path / "gone.png", noise(8, 8)[:, :, 0:2]):
        with pytest.raises(ImageError):
            classifier.classify(image)


def test_a_result_is_one_line_for_people():
    assert str(classify(0, np.log(6), np.log(3))) == "b 0.600  (c 0.300  a 0.100)"
    assert str(classify(0, np.log(6), np.log(3), threshold=0.7, top_k=2)) == "unknown (b 60.0 %)  (c 0.300)"
    assert str(classify(1, labels=["only"])) == "only 1.000"


def test_a_result_distinguishes_a_label_named_unknown_from_a_rejected_one():
    labels, logits = ("a", "unknown", "c"), (0, np.log(6), np.log(3))
    kept, rejected = (classify(*logits, labels=labels, threshold=threshold) for threshold in (0.5, 0.7))
    assert (kept.label, rejected.label) == ("unknown", "unknown")
    assert [one.to_dict()["rejected"] for one in (kept, rejected)] == [False, True]
    assert (kept.verdict, rejected.verdict) == ("unknown 60.0 %", "unknown (unknown 60.0 %)")
    assert str(kept).startswith("unknown 0.600")


def test_an_unknown_label_is_reported_before_a_backend_is_opened(bundle, monkeypatch):
    monkeypatch.setattr(
        "edgeclf_runtime.classify.selection.open_runner", lambda *_: pytest.fail("a backend was opened")
    )
    with pytest.raises(OptionError, match="there is no label 'nobody'"):
        Classifier.open(bundle, allow=["nobody"])


def distances():
    return {"": Rejection(known=KnownImages(arrays()))}


def test_features_come_with_the_logits_if_a_distance_is_computed(bundle):
    image = noise(64, 64)
    with Classifier.open(bundle, "fp32", "onnxruntime") as classifier:
        inferred = classifier.infer(classifier.prepare(image))
        assert inferred.features.shape == (1, open_bundle(bundle).model("fp32").features)
        assert classifier.answer(inferred).label == classifier.classify(image).label
    classifier = Classifier(FakeRunner([1, 2], features=[3, 4]), "ab", Preprocessing(8, 8))
    assert classifier.infer(classifier.prepare(image)).features is None


def test_a_model_without_features_is_no_error_where_they_are_wanted():
    classifier = Classifier(FakeRunner([1, 2]), "ab", Preprocessing(8, 8), rejections=distances())
    inferred = classifier.infer(classifier.prepare(noise(8, 8)))
    assert inferred.features is None
    assert classifier.answer(inferred).label == "b"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[1, 2, float("nan")]], "produced non-finite features; use another model with --model"),
        ([[1, 2, float("inf")]], "produced non-finite features"),
        ([[[1, 2, 3]]], r"returned features of shape \[1, 1, 3\]; \[1, 3\] was expected"),
    ],
)
def test_wrong_features_are_an_error_where_they_are_wanted(features, message):
    runner = FakeRunner([1, 2], features=features)
    for wanted in (False, True):
        classifier = Classifier(runner, "ab", Preprocessing(8, 8), rejections=distances() if wanted else {})
        if wanted:
            with pytest.raises(BackendError, match=message):
                classifier.classify(noise(8, 8))
        else:
            assert classifier.classify(noise(8, 8)).label == "b"


class Seen(FakeRunner):
    """Keeps the middle pixel of its input, as BGR."""

    def infer(self, batch):
        self.pixel = tuple(batch[0, batch.shape[1] // 2, batch.shape[2] // 2])
        return super().infer(batch)


def middle_of(image, **options):
    runner = Seen([1, 2])
    Classifier(runner, "ab", Preprocessing(8, 8, "stretch", color="BGR")).classify(image, **options)
    return runner.pixel


@pytest.mark.parametrize(
    ("roi", "color"),
    [
        ((0, 0, 16, 8), RED),
        ((16, 0, 16, 8), GREEN),
        ((0.0, 0.5, 0.5, 0.5), BLUE),
        ((0.5, 0.5, 0.5, 0.5), YELLOW),
        ((0, 0, 0.5, 0.5), RED),
        ((31, 15, 1, 1), YELLOW),
    ],
)
def test_the_model_sees_only_the_region_in_pixels_or_fractions(roi, color):
    assert middle_of(quarters(32, 16), roi=roi) == color


@pytest.mark.parametrize(("rotation", "color"), [(0, RED), (90, BLUE), (180, YELLOW), (270, GREEN)])
def test_an_image_is_turned_clockwise_before_the_region_is_cut(rotation, color):
    assert middle_of(quarters(32, 16), roi=(0.0, 0.0, 0.5, 0.5), rotation=rotation) == color
    turned = {90: (0, 0, 8, 16), 270: (0, 0, 8, 16)}
    assert middle_of(quarters(32, 16), roi=turned.get(rotation, (0, 0, 16, 8)), rotation=rotation) == color


@pytest.mark.parametrize("roi", [(0, 0, 33, 16), (-1, 0, 4, 4), (0, 0, 0, 4), (31, 15, 2, 1), (0.0, 0.0, 0.001, 1.0)])
def test_a_region_outside_of_the_image_is_refused_with_both(roi):
    with pytest.raises(ImageError, match=r"is empty or reaches outside of the upright image of 32 x 16 pixels"):
        middle_of(quarters(32, 16), roi=roi)
    with pytest.raises(ImageError, match="upright image of 16 x 32 pixels"):
        middle_of(quarters(32, 16), roi=(0, 0, 32, 16), rotation=90)


def test_fractions_above_one_are_not_taken_for_pixels():
    with pytest.raises(
        ImageError, match=r"holds a float, so fractions from 0 to 1 were expected; give pixels as whole"
    ):
        middle_of(quarters(32, 16), roi=(0.0, 0.0, 32, 16))
    with pytest.raises(ImageError, match="fractions from 0 to 1 were expected"):
        middle_of(quarters(32, 16), roi=(0.0, 0.0, float("nan"), 1.0))


def test_another_rotation_is_refused():
    with pytest.raises(OptionError, match="rotation is 45; 0, 90, 180, 270 degrees clockwise were expected"):
        middle_of(quarters(32, 16), rotation=45)


def test_classifying_is_preparing_inferring_and_answering(classifier, bundle):
    image = golden_images(open_bundle(bundle))[0]
    whole = classifier.classify(image)
    result = classifier.answer(classifier.infer(classifier.prepare(image)), 12.5)
    assert result._replace(timings_ms=None, confidences=None) == whole._replace(timings_ms=None, confidences=None)
    assert result.timings_ms["preprocess"] == 12.5
    assert classifier.prepare(image).shape == (1, 64, 64, 3)


def test_preparing_in_another_thread_does_not_disturb_inference(classifier, bundle):
    images = golden_images(open_bundle(bundle))
    expected = [classifier.classify(image).confidence for image in images]
    batches = [classifier.prepare(image) for image in images]
    done = threading.Event()

    def prepare():
        while not done.is_set():
            for image in images:
                classifier.prepare(image)

    thread = threading.Thread(target=prepare)
    thread.start()
    try:
        for _ in range(10):
            assert [classifier.answer(classifier.infer(batch)).confidence for batch in batches] == pytest.approx(
                expected, abs=1e-6
            )
    finally:
        done.set()
        thread.join()


def test_a_batch_gives_the_results_of_each_image(classifier, bundle):
    images = golden_images(open_bundle(bundle))
    results = classifier.classify_batch(images)
    assert [result.label for result in results] == [classifier.classify(image).label for image in images]
    singly = [classifier.classify(image).confidence for image in images]
    assert [result.confidence for result in results] == pytest.approx(singly, abs=1e-4)
    assert classifier.classify_batch([]) == []


def test_a_batch_is_one_inference_and_its_time_is_shared():
    runner = FakeRunner([[2, 1], [1, 2]], fail_after=1)
    results = Classifier(runner, "ab", Preprocessing(8, 8)).classify_batch([noise(8, 8)] * 4)
    assert [result.label for result in results] == ["a", "b", "a", "b"]
    assert len({id(result.timings_ms) for result in results}) == 4
    assert all(set(result.timings_ms) == {"preprocess", "inference", "postprocess"} for result in results)


def test_other_confidences_give_another_decision():
    classifier = fixed(0, np.log(6), np.log(3), threshold=0.5, deny=["a"])
    result = classifier.decide(classifier.classify(noise(8, 8)), np.array([0.0, 0.45, 0.55]), 1)
    assert (result.label, result.confidence) == (UNKNOWN, 0.45)
    assert result.top == [("c", 0.55), ("b", 0.45)]
    assert (result.model, result.backend) == ("model", "fake")
    assert (result.rejected, result.verdict) == (True, "unknown (b 45.0 %)")
    again = classifier.decide(result, np.array([0.0, 0.45, 0.55]), 2)
    assert (again.label, again.rejected, again.candidate) == ("c", False, "c")


def test_only_backends_that_can_infer_several_images_at_once_do(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # an earlier test may have measured that fewer are faster
    for backend, expected in (("onnxruntime", 4), ("opencv", 1)):
        with Classifier.open(bundle, "fp32", backend, at_once=4) as classifier:
            assert classifier.at_once == expected


def test_the_pixels_are_exactly_those_of_preprocess(classifier):
    batch = as_batch([preprocess(noise(64, 64)[8:40, 4:60], classifier.preprocessing)])
    assert np.array_equal(classifier.prepare(noise(64, 64), roi=(4, 8, 56, 32)), batch)
