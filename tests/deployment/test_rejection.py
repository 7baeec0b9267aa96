from dataclasses import replace

import numpy as np
import pytest

import edgeclf
from edgeclf import BundleOptions
from edgeclf.deployment.bundle_notes import about_rejections
from edgeclf.deployment.rejection import ModelRejection
from edgeclf.errors import OptionError
from edgeclf.evaluation.confidence_threshold import Confidence
from edgeclf.evaluation.rejection.distance_threshold import fit_distance_threshold
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.commands.info import info
from tests.support.pictures import noise


@pytest.fixture(scope="module")
def rejecting(run, tmp_path_factory):
    """A bundle that rejects by distance and by label and gives label sets, and its report."""
    path = tmp_path_factory.mktemp("rejecting") / "strict.edge"
    label = edgeclf.read_run(run).labels[0]
    options = BundleOptions(targets=("x86-cpu",), precision={label: 0.95}, keep=0.9, label_sets=0.9)
    return path, edgeclf.bundle(run, path, options), label


@pytest.mark.slow
def test_known_images_are_kept_in_the_share_that_is_wanted_by_each_file(rejecting):
    path, report, label = rejecting
    models = open_bundle(path).models
    assert {"fp32", "int8-cpu"} <= {model.name for model in models}
    for model in models:
        assert model.metrics["distance"]["kept"] >= 0.9
        assert report.facts[model.name].distance.threshold == model.known_images.most_distance
        assert list(model.label_thresholds) == [label]
        assert model.metrics["label_precision"][label]["precision"] >= 0.95
        assert model.metrics["label_sets"]["mean_size"] >= 0.9
    assert len({model.known_images.scales for model in models}) == len(models)


@pytest.mark.slow
def test_what_is_rejected_is_said_when_the_bundle_is_made_and_by_info(rejecting):
    path, report, label = rejecting
    assert [note for note in report.notes if note.startswith("fp32: unknown above the distance ")]
    assert [note for note in report.notes if note.startswith(f"fp32: {label} needs a confidence of ")]
    assert [note for note in report.notes if note.startswith("fp32: label sets have ")]
    shown = str(info(path))
    assert "unknown above the distance " in shown
    assert f" for the label {label}" in shown
    assert "label sets have the right label for 90% of images" in shown


@pytest.mark.slow
def test_another_kind_of_image_is_unknown_on_the_device(rejecting):
    with Classifier.open(rejecting[0], "fp32", "onnxruntime") as classifier:
        strange = classifier.classify(noise(64, 64))
        known = [classifier.classify(path) for path in sorted((rejecting[0] / "golden").glob("*.png"))[:8]]
    assert (strange.label, strange.reason) == ("unknown", "distance")
    assert len(strange.nearest) == 3
    assert sum(result.reason == "distance" for result in known) <= 3
    assert all(result.label_set is not None for result in known)


@pytest.mark.parametrize(("images", "end"), [(14, "; to promise 0.95, 19 are needed"), (19, " of new ones)")])
def test_a_share_that_few_images_cannot_promise_is_said(images, end):
    distance = fit_distance_threshold(np.arange(images, dtype=np.float32), 0.95)
    confidence = Confidence(1, 0, images, 0, 0, 1, 1)
    [note] = about_rejections({"fp32": ModelRejection(confidence, distance=distance)})
    assert note.endswith(end)


def test_a_precision_that_is_no_share_is_refused_with_an_example():
    for wrong in ("often", "cat=often"):
        with pytest.raises(
            OptionError, match=f"precision is '{wrong}'; a share such as 0.99 was expected, or one label"
        ):
            BundleOptions(precision=wrong)
    with pytest.raises(OptionError, match=r"precision is 1\.5; more than 0 and at most 1 was expected"):
        BundleOptions(precision={"cat": 1.5})
    for wrong in ({"keep": 1}, {"label_sets": 0}):
        with pytest.raises(OptionError, match=r"more than 0 and less than 1 was expected, such as 0\.95"):
            BundleOptions(**wrong)


def test_a_precision_may_be_for_all_labels_and_for_single_ones():
    options = BundleOptions(precision=("0.9", "a=b=0.99"))
    assert (options.common_precision, options.label_precision) == (0.9, {"a=b": 0.99})
    assert replace(options, keep=0.9).precision == options.precision
    assert BundleOptions(precision=0.8).common_precision == 0.8
