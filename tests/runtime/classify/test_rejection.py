import json
import shutil

import numpy as np
import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.decision import Decider
from edgeclf_runtime.classify.known_images import KnownImages
from edgeclf_runtime.classify.rejection import CONFIDENCE, DISTANCE, Rejection, label_thresholds, rejections_of
from edgeclf_runtime.errors import BackendError, BundleError, OptionError
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.results import Limits
from edgeclf_runtime.streaming.smoothing import Smoother
from edgeclf_runtime.streaming.stream import stream
from tests.runtime.classify.test_known_images import arrays
from tests.support.pictures import noise
from tests.support.sealing import flip_byte, reseal

LABELS = ("cat", "dog")
NEAR, FAR = [5, 0, 0], [0, 0, 3]


def far(**rules):
    return Rejection(known=KnownImages(arrays()), most_distance=1.0, **rules)


def classify(features, logits=(2, 1), rejection=None):
    runner = FakeRunner(logits, features=features)
    rejections = {"model": rejection or far()}
    with Classifier(runner, LABELS, Preprocessing(8, 8), "model", rejections=rejections) as classifier:
        return classifier.classify(noise(8, 8))


def test_an_image_unlike_the_training_images_is_unknown_whatever_its_confidence():
    known, strange = classify(NEAR, (9, 0)), classify(FAR, (9, 0))
    assert (known.label, known.rejected, known.reason) == ("cat", False, "")
    assert (strange.label, strange.candidate, strange.reason) == ("unknown", "cat", DISTANCE)
    assert strange.confidence > 0.99
    assert known.distance < 1 < strange.distance
    assert strange.verdict == "unknown (cat 100.0 %, distance 1.5)"


def test_an_unknown_image_names_the_training_images_that_are_nearest():
    assert classify([0, 1, 9]).nearest == (("dog", 7), ("cat", 40))
    assert classify(NEAR).nearest == ()


def test_the_line_holds_reason_distance_and_nearest_only_where_there_are_any():
    line = json.loads(json.dumps(classify(FAR).to_dict()))
    assert (line["reason"], line["distance"]) == ("distance", pytest.approx(1.5, abs=0.3))
    assert line["nearest"][0] == {"label": "cat", "image": 40}
    plain = classify(FAR, rejection=Rejection()).to_dict()
    assert not {"reason", "distance", "nearest", "label_set"} & set(plain)


def test_without_features_there_is_no_distance_and_nothing_is_rejected_by_it():
    found = classify(None)
    assert (found.label, found.distance) == ("cat", None)


def test_features_of_another_size_count_as_a_failure_of_the_backend():
    with pytest.raises(BackendError, match=r"returned features of shape \[1, 2\]; \[1, 3\] was expected"):
        classify([1, 2])


def test_both_thresholds_apply_and_the_distance_is_the_first_reason():
    rules = far(threshold=0.9, by_label={1: 0.95})
    assert rules.reason(0, 0.89, 0.5) == CONFIDENCE
    assert rules.reason(0, 0.91, 0.5) == ""
    assert rules.reason(1, 0.91, 0.5) == CONFIDENCE
    assert rules.reason(0, 0.1, 1.5) == DISTANCE
    assert rules.reason(0, 0.99, float("inf")) == rules.reason(0, 0.99, float("nan")) == DISTANCE


def test_a_threshold_belongs_to_one_label():
    assert label_thresholds(LABELS, {"dog": 0.9}) == {1: 0.9}
    with pytest.raises(OptionError, match="there is no label 'cow'; the labels are: cat, dog"):
        label_thresholds(LABELS, {"cow": 0.9})


def test_a_label_set_has_every_label_that_is_likely_enough_the_likeliest_first():
    rules = Rejection(in_set=0.3)
    confidences = np.array([0.4, 0.6])
    assert Decider(LABELS).decide(confidences, 1, rules).label_set == ("dog", "cat")
    assert Decider(LABELS).decide(np.array([0.2, 0.8]), 1, rules).label_set == ("dog",)


def test_label_sets_promise_nothing_once_labels_are_left_out():
    rules = Rejection(in_set=0.3)
    assert Decider(("a", "b", "c"), deny="c").decide(np.array([0.4, 0.6, 0]), 1, rules).label_set is None


def test_other_confidences_keep_the_distance_or_take_another():
    rejections = {"model": far()}
    runner = FakeRunner([2, 1], features=FAR)
    with Classifier(runner, LABELS, Preprocessing(8, 8), "model", rejections=rejections) as classifier:
        result = classifier.classify(noise(8, 8))
        assert classifier.decide(result, np.array([0.9, 0.1]), 0).reason == DISTANCE
        averaged = classifier.decide(result, np.array([0.9, 0.1]), 0, distance=0.5)
        assert (averaged.label, averaged.distance, averaged.nearest) == ("cat", 0.5, ())


def test_a_smoothed_result_that_is_far_always_names_the_nearest_images():
    rows = {"far": FAR, "near": NEAR}
    order = ["near"] * 3 + ["far"] * 4 + ["near", "far"] * 3 + ["near"] * 20
    runner = FakeRunner([[2, 1]] * len(order), features=[rows[name] for name in order])
    rejections = {"model": Rejection(known=KnownImages(arrays()), most_distance=0.0)}
    camera = FakeCamera([noise(8, 8)] * len(order))
    with Classifier(runner, LABELS, Preprocessing(8, 8), "model", rejections=rejections) as classifier:
        results = [item.result for item in stream(classifier, camera, Smoother(0.5))]
    assert {result.reason for result in results} == {"", DISTANCE}
    assert [bool(result.nearest) for result in results] == [result.reason == DISTANCE for result in results]


def test_the_limits_of_a_model_are_given_by_label_and_need_what_they_limit():
    rules = far(threshold=0.5, by_label={1: 0.9}, in_set=0.2, usual_distance=0.7)
    assert rules.limits(LABELS) == Limits(0.5, {"dog": 0.9}, 0.7, 1.0, True)
    assert Rejection(most_distance=1.0).limits(LABELS) == Limits()


def test_the_limits_are_those_of_the_bundle_or_of_the_user(bundle):
    for most in (None, 4.5):
        with Classifier.open(bundle, "fp32", "onnxruntime", threshold=0.6, most_distance=most) as classifier:
            usual = open_bundle(bundle).model("fp32").known_images.usual_distance
            assert classifier.limits("fp32") == Limits(0.6, {}, usual, most, False)


def test_a_bundles_own_images_are_near_and_noise_is_far(bundle):
    opened = open_bundle(bundle)
    with Classifier.open(opened, "fp32", "onnxruntime") as classifier:
        usual = opened.model("fp32").known_images.usual_distance
        golden = [classifier.classify(str(path)).distance for path in sorted((bundle / "golden").glob("00[0-3].png"))]
        assert np.median(golden) < usual < classifier.classify(noise(64, 64)).distance


def test_a_users_distance_replaces_the_bundles(bundle):
    with Classifier.open(bundle, "fp32", "onnxruntime", most_distance=-100) as classifier:
        result = classifier.classify(bundle / "golden" / "000.png")
    assert (result.label, result.reason) == ("unknown", DISTANCE)
    assert {near.label for near in result.nearest} <= set(open_bundle(bundle).labels)


def test_a_users_threshold_replaces_those_of_single_labels(bundle):
    opened = open_bundle(bundle)
    models = [model._replace(label_thresholds={opened.labels[0]: 0.99}) for model in opened.models]
    assert rejections_of(opened, models)["fp32"].by_label == {0: 0.99}
    mine = rejections_of(opened, models, threshold=0.5)["fp32"]
    assert (mine.threshold, mine.by_label) == (0.5, {})


def test_a_distance_without_anything_to_compute_it_from_is_refused(bundle):
    opened = open_bundle(bundle)
    models = [model._replace(known_images=None) for model in opened.models]
    with pytest.raises(OptionError, match=f"--most-distance has no effect: no model of {opened.name} gives a distance"):
        rejections_of(opened, models, most_distance=3)


def test_a_summary_that_was_changed_is_refused_with_the_bundle(bundle, tmp_path):
    copied = shutil.copytree(bundle, tmp_path / "copied.edge")
    flip_byte(copied / "known_images.npz", 200)
    with pytest.raises(BundleError, match=r"known_images.npz was changed \(its sha256 differs"):
        open_bundle(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]}, "scales must be above 0"),
        ({"file": "missing.npz"}, "names the file 'missing.npz', which is not listed"),
    ],
)
def test_facts_that_do_not_fit_are_refused(bundle, tmp_path, change, message):
    copied = shutil.copytree(bundle, tmp_path / "copied.edge")
    reseal(
        copied,
        lambda manifest: next(model for model in manifest["models"] if model["name"] == "fp32")["known_images"].update(
            change
        ),
    )
    with pytest.raises(BundleError, match=message):
        Classifier.open(copied, "fp32", "onnxruntime")


def test_a_threshold_of_a_label_that_the_bundle_lacks_is_refused(bundle, tmp_path):
    copied = shutil.copytree(bundle, tmp_path / "copied.edge")
    reseal(copied, lambda manifest: manifest["models"][0].update(label_thresholds={"cow": 0.5}))
    with pytest.raises(BundleError, match="has a threshold for the label 'cow', which is not listed"):
        open_bundle(copied)
