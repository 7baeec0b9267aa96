import threading

import numpy as np
import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.golden import golden_images, read_golden
from edgeclf_runtime.classify.rejection import Rejection
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.fake import FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners.base import Outputs
from tests.support.pictures import noise


def test_without_a_fallback_the_backends_error_is_raised():
    classifier = Classifier(FakeRunner([1, 2], fail_after=1), "ab", Preprocessing(8, 8))
    assert classifier.classify(noise(8, 8)).label == "b"
    with pytest.raises(BackendError, match="the fake backend fails after 1 inferences"):
        classifier.classify(noise(8, 8))


class Failing(FakeRunner):
    """A model's runner that passes the golden images and fails at the first frame."""

    backend = "onnxruntime"

    def __init__(self, runner, answer=None):
        super().__init__([0])
        self.runner, self.answer = runner, answer

    def infer_outputs(self, batch):
        if self.answer is None:
            raise BackendError("out of memory")
        logits, features = self.runner.infer_outputs(batch)
        return Outputs(logits * np.float32(self.answer), features)


def use(classifier, runner, **others):
    """Let a classifier that was opened go on with another runner."""
    classifier._backends.in_use = classifier.in_use._replace(runner=runner, **others)


@pytest.fixture(params=[None, "nan", "inf"])
def failing(request, bundle):
    """A classifier whose first backend fails in one of three ways after it was opened."""
    classifier = Classifier.open(bundle)
    use(classifier, Failing(classifier.runner, request.param))
    with classifier:
        yield classifier


@pytest.mark.slow
def test_a_backend_that_fails_later_is_replaced_and_the_frame_is_classified(failing, bundle, caplog):
    opened = open_bundle(bundle)
    first, broken = failing.model, failing.runner
    result = failing.classify(golden_images(opened)[0])
    assert (result.model, result.backend) != (first, "onnxruntime")
    assert result.model == failing.model
    assert result.label == opened.labels[np.argmax(read_golden(opened)["logits"][result.model][0])]
    assert broken.closed
    assert f"{first} on onnxruntime is replaced by {result.model} on {result.backend}: " in caplog.text
    caplog.clear()
    assert failing.classify(golden_images(opened)[0]).model == result.model
    assert caplog.text == ""


@pytest.mark.slow
def test_the_model_that_takes_over_brings_its_own_threshold_but_not_over_the_users(bundle):
    opened = open_bundle(bundle)
    opened = opened._replace(models=tuple(model._replace(threshold=0.25, temperature=2.0) for model in opened.models))
    for threshold, expected in ((None, 0.25), (0.75, 0.75)):
        with Classifier.open(opened, threshold=threshold) as classifier:
            use(classifier, Failing(classifier.runner), temperature=None, rejection=Rejection())
            classifier.classify(noise(8, 8))
            assert (classifier.in_use.temperature, classifier.in_use.rejection.threshold) == (2.0, expected)


def test_when_no_backend_is_left_it_is_an_error_and_the_next_frame_is_tried_again(bundle):
    with Classifier.open(bundle, "fp32", "onnxruntime") as classifier:
        whole = classifier.runner
        use(classifier, Failing(whole))
        for _ in range(2):
            with pytest.raises(BackendError, match=r"out of memory\nno other model of .*\.edge runs on this machine"):
                classifier.classify(noise(8, 8))
        use(classifier, whole)
        assert classifier.classify(noise(8, 8)).model == "fp32"


def test_a_backend_that_fails_in_two_threads_is_replaced_once(bundle):
    class FailTogether(Failing):
        concurrent = True

        def infer_outputs(self, batch):
            met.wait(30)
            return super().infer_outputs(batch)

    met = threading.Barrier(2)
    opened = open_bundle(bundle)
    fp32 = opened.model("fp32")._replace(backends=("onnxruntime", "opencv"))
    with Classifier.open(opened._replace(models=(fp32,)), "fp32", at_once=2) as classifier:
        use(classifier, FailTogether(classifier.runner))
        results = []
        threads = [threading.Thread(target=lambda: results.append(classifier.classify(noise(8, 8)))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # A second replacement would have found none left.
    assert [(result.model, result.backend) for result in results] == [("fp32", "opencv")] * 2
