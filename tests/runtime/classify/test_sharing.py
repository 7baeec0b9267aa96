"""One classifier and several threads, on every installed backend: while it works, fails, hangs and is closed."""

import logging
import threading

import numpy as np
import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify import active_backend, selection
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.golden import golden_images, read_golden
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.streaming.smoothing import Smoother
from tests.runtime.runners.test_runners import ON_THE_CPU
from tests.support.faults import ERRORS, Strange, Watched, in_threads, raising
from tests.support.pictures import noise

THREADS = 8


@pytest.fixture(scope="module")
def opened(bundle):
    return open_bundle(bundle)


@pytest.fixture(scope="module")
def images(opened):
    return golden_images(opened)


@pytest.fixture(scope="module")
def labels(opened):
    return [opened.labels[number] for number in np.argmax(read_golden(opened)["logits"]["fp32"], 1)]


@pytest.fixture
def classifier(opened, opener, monkeypatch):
    """A function that opens the float model for some backends, tried in this order, whether they are here or not."""
    made = []
    monkeypatch.setattr(selection, "probe", lambda backend: "1.0")

    def make(*names):
        fp32 = opened.model("fp32")._replace(backends=names)
        made.append(Classifier.open(opened._replace(models=(fp32,)), "fp32", at_once=2, threads=2))
        return made[-1]

    yield make
    for one in made:
        one.close()


def others(backend):
    """Two backends for the float model, of which the first is this one."""
    return (backend, "opencv" if backend == "onnxruntime" else "onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_threads_get_the_right_labels_from_one_classifier(classifier, opener, images, labels, backend):
    with classifier(backend) as shared:
        found = in_threads(THREADS, lambda _: [shared.classify(image).label for image in images * 3])
    assert found == [labels * 3] * THREADS
    assert opener.wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("backend", ON_THE_CPU)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_backend_that_fails_under_threads_is_replaced_once(classifier, opener, images, labels, backend, error):
    with classifier(*others(backend)) as shared:
        first = opener.runners[0]
        first.fault = raising(error, after=first.inferences + 5)
        found = in_threads(THREADS, lambda _: [shared.classify(image).label for image in images * 3])
        assert found == [labels * 3] * THREADS
        assert first.was_closed.is_set()
        assert (shared.fallback.failed, shared.fallback.by) == tuple("fp32 on " + name for name in others(backend))
    assert opener.backends == list(others(backend))
    assert opener.wrong == []


def test_a_failed_backend_is_closed_by_the_last_thread_that_leaves_it(classifier, opener, images, labels):
    inside, leave, results = threading.Event(), threading.Event(), []

    def fault(number):
        if number > before + 1:
            raise RuntimeError("the device was lost")
        inside.set()
        assert leave.wait(30)

    with classifier("onnxruntime", "opencv") as shared:
        first = opener.runners[0]
        before, first.fault = first.inferences, fault
        slow = threading.Thread(target=lambda: results.append(shared.classify(images[0])))
        slow.start()
        assert inside.wait(30)
        assert shared.classify(images[1]).backend == "opencv"
        assert not first.was_closed.is_set()
        leave.set()
        slow.join(30)
        assert first.was_closed.is_set()
    assert (results[0].label, results[0].backend) == (labels[0], "onnxruntime")
    assert opener.wrong == []


def test_threads_that_come_while_the_next_backend_opens_wait_for_it(classifier, opener, images):
    opening, go_on = threading.Event(), threading.Event()
    opener.on_open["opencv"] = lambda: (opening.set(), go_on.wait(30))
    with classifier("onnxruntime", "opencv") as shared:
        first = opener.runners[0]
        first.fault = raising(Strange("gone"), after=first.inferences)
        threading.Thread(target=lambda: (opening.wait(30), threading.Timer(0.2, go_on.set).start())).start()
        found = in_threads(THREADS, lambda _: shared.classify(images[0]).backend)
        assert found == ["opencv"] * THREADS
    assert opener.backends == ["onnxruntime", "opencv"]
    assert opener.wrong == []


def test_when_the_last_backend_fails_the_error_has_every_reason(classifier, opener, images, opened):
    def refuse():
        raise OSError("libopenvino.so: cannot open shared object file")

    opener.on_open["openvino"] = refuse
    with classifier("onnxruntime", "openvino", "opencv") as shared:
        opener.runners[0].fault = raising(TypeError("factory function returned nullptr"))
        shared.classify(images[0])
        opener.runners[1].fault = raising(SystemExit("the license has expired"))
        for outcome in in_threads(4, lambda _: shared.classify(images[0])):
            assert isinstance(outcome, BackendError)
            for reason in (
                "nullptr",
                "fp32 on openvino: it failed: OSError: libopenvino.so",
                "the license has expired",
            ):
                assert reason in str(outcome)
        opener.runners[1].fault = None
        assert shared.classify(images[0]).backend == "opencv"
    assert opener.backends == ["onnxruntime", "opencv"]
    assert opener.wrong == []


@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_closing_gives_each_thread_a_result_or_an_error_that_says_so(classifier, opener, images, labels, backend):
    shared = classifier(backend)
    begun = threading.Barrier(THREADS + 1)

    def work(number):
        if number == THREADS:
            begun.wait(30)
            return shared.close()
        found = [shared.classify(images[0]).label]
        begun.wait(30)
        while True:
            found.append(shared.classify(images[len(found) % len(images)]).label)
            assert found[-1] == labels[(len(found) - 1) % len(images)]

    *outcomes, closed = in_threads(THREADS + 1, work)
    assert closed is None
    for outcome in outcomes:
        assert isinstance(outcome, BackendError), outcome
        assert "the classifier is closed" in str(outcome)
    assert opener.wrong == []


def test_after_closing_everything_says_so_and_nothing_is_opened(classifier, opener, images):
    shared = classifier("onnxruntime", "opencv")
    inferred = shared.infer(shared.prepare(images[0]))
    shared.close()
    shared.close()
    for call in (
        lambda: shared.classify(images[0]),
        lambda: shared.classify("no such file.png"),
        lambda: shared.classify_batch([]),
        lambda: shared.infer(np.zeros((1, 64, 64, 3), np.float32)),
        lambda: shared.prepare(images[0]),
        lambda: shared.stream(FakeCamera(images)),
        lambda: shared.__enter__(),
    ):
        with pytest.raises(BackendError, match=r"the classifier is closed; open another one with Classifier.open\(\)"):
            call()
    assert shared.answer(inferred).backend == "onnxruntime"
    assert opener.backends == ["onnxruntime"]
    assert opener.wrong == []


def test_leaving_the_block_while_the_next_backend_opens_closes_that_too(classifier, opener, images):
    opening, go_on, outcomes = threading.Event(), threading.Event(), []
    opener.on_open["opencv"] = lambda: (opening.set(), go_on.wait(30))

    def classify():
        try:
            shared.classify(images[0])
        except BackendError as error:
            outcomes.append(str(error))

    with classifier("onnxruntime", "opencv") as shared:
        opener.runners[0].fault = raising(RuntimeError("the device was lost"))
        thread = threading.Thread(target=classify)
        thread.start()
        assert opening.wait(30)
    go_on.set()
    thread.join(30)
    assert "the classifier is closed" in outcomes[0]
    assert opener.backends == ["onnxruntime", "opencv"]
    assert opener.wrong == []


def test_no_further_backend_is_opened_for_a_closed_classifier(classifier, opener, images):
    opening, go_on, refused = threading.Event(), threading.Event(), []

    def fail():
        opening.set()
        go_on.wait(30)
        raise RuntimeError("not this one")

    opener.on_open["openvino"] = fail
    shared = classifier("onnxruntime", "openvino", "opencv")
    opener.runners[0].fault = raising(RuntimeError("the device was lost"))

    def classify():
        with pytest.raises(BackendError, match="the classifier is closed"):
            shared.classify(images[0])
        refused.append(True)

    thread = threading.Thread(target=classify)
    thread.start()
    assert opening.wait(30)
    shared.close()
    go_on.set()
    thread.join(30)
    assert (refused, opener.backends) == ([True], ["onnxruntime"])
    assert opener.wrong == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_backend_that_cannot_be_closed_is_logged_and_the_next_answers(classifier, opener, images, caplog, error):
    class Stuck(Watched):
        def close(self):
            super().close()
            raise error

    with classifier("onnxruntime", "opencv") as shared:
        opener.runners[0] = stuck = Stuck(opener.runners[0].runner, raising(RuntimeError("the device was lost")))
        shared._backends.in_use = shared.in_use._replace(runner=stuck)
        assert in_threads(4, lambda _: shared.classify(images[0]).backend) == ["opencv"] * 4
    assert type(error).__name__ in caplog.text
    assert opener.wrong == []


@pytest.mark.parametrize("concurrent", [False, True])
def test_a_backend_that_hangs_is_not_closed_until_it_returns(concurrent, caplog, monkeypatch):
    monkeypatch.setattr(active_backend, "CLOSE_S", 0.05)
    leave, labels = threading.Event(), []
    runner = Watched(FakeRunner([1, 2]), lambda number: leave.wait(30))
    runner.concurrent = concurrent
    shared = Classifier(runner, "ab", Preprocessing(8, 8), "model")
    hanging = threading.Thread(target=lambda: labels.append(shared.classify(noise(8, 8)).label))
    hanging.start()
    assert runner.entered.wait(30)
    with caplog.at_level(logging.WARNING):
        shared.close()
    assert caplog.text.count("model on fake is not closed, because an inference does not return") == 1
    assert not runner.was_closed.is_set()
    leave.set()
    hanging.join(30)
    assert runner.was_closed.is_set()
    assert (runner.wrong, labels) == ([], ["b"])


def test_closing_releases_threads_that_wait_behind_an_inference_that_hangs(monkeypatch):
    monkeypatch.setattr(active_backend, "CLOSE_S", 0.05)
    leave, refused = threading.Event(), []
    runner = Watched(FakeRunner([1, 2]), lambda number: leave.wait(30))
    shared = Classifier(runner, "ab", Preprocessing(8, 8), "model")
    batch = shared.prepare(noise(8, 8))
    hanging = threading.Thread(target=shared.infer, args=(batch,))
    hanging.start()
    assert runner.entered.wait(30)

    def wait():
        with pytest.raises(BackendError, match="the classifier is closed"):
            shared.infer(batch)
        refused.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    shared.close()
    waiting.join(30)
    assert refused == [True]
    leave.set()
    hanging.join(30)
    assert runner.inferences == 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", ON_THE_CPU)
def test_two_cameras_share_a_classifier_that_falls_back(classifier, opener, images, labels, backend):
    with classifier(*others(backend)) as shared:
        first = opener.runners[0]
        first.fault = raising(RuntimeError("the device was lost"), after=first.inferences + 10)

        def watch(number):
            with FakeCamera(images * 4) as camera:
                smoother = Smoother(1e-9, margin=0.0) if number else None
                return [item.result.label for item in shared.stream(camera, smoother)]

        assert in_threads(2, watch) == [labels * 4] * 2
        assert shared.backend == others(backend)[1]
    assert opener.wrong == []


class Next:
    """A selection without a bundle."""

    def __init__(self, model, runner):
        self.found = [(model, runner)]

    def open_next(self):
        if not self.found:
            raise BackendError("nothing is left")
        return self.found.pop()


def test_a_smoothed_label_has_the_threshold_of_the_model_that_gave_it(opened):
    following = opened.model("fp32")._replace(name="other", threshold=0.99)
    first, second = FakeRunner([1, 2], fail_after=1), FakeRunner([1, 2], fail_after=1)
    with Classifier(first, "ab", Preprocessing(8, 8), "first", fallback=Next(following, second)) as classifier:
        before, after = [classifier.classify(noise(8, 8)) for _ in range(2)]
        assert [classifier.decide(result, result.confidences, 1).label for result in (before, after)] == [
            "b",
            "unknown",
        ]
        with pytest.raises(
            BackendError, match=r"fails after 1 .*\nnothing is left\nearlier failures:\nfirst on fake: "
        ):
            classifier.classify(noise(8, 8))
    assert (first.closed, second.closed) == (True, True)
