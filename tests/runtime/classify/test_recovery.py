"""The return of a better backend after a fallback, and the reports of both."""

import contextlib
import json
import logging
import threading

import numpy as np
import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify import recovery, selection
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.classify.golden import golden_images
from edgeclf_runtime.classify.recovery import Recovery
from edgeclf_runtime.device import systemd as notify
from edgeclf_runtime.device.time_limit import Hung
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.fake import FakeCamera
from edgeclf_runtime.results import StreamEvent
from edgeclf_runtime.sinks.live.sink import LiveSink
from edgeclf_runtime.streaming.run_loop import Run
from edgeclf_runtime.streaming.stream import follow
from tests.runtime.streaming.test_run_loop import Listener, Systemd
from tests.support.faults import in_threads, raising
from tests.support.waiting import wait_until

GONE = RuntimeError("the device was lost")


@pytest.fixture
def images(bundle):
    return golden_images(open_bundle(bundle))


@pytest.fixture
def shared(bundle, opener, monkeypatch):
    """A classifier on ONNX Runtime, which opencv may replace, and whose better backend is tried again at once."""
    monkeypatch.setattr(recovery, "FIRST_S", 0.001)
    monkeypatch.setattr(recovery, "MOST_S", 0.01)
    opened = open_bundle(bundle)
    fp32 = opened.model("fp32")._replace(backends=("onnxruntime", "opencv"))
    with Classifier.open(opened._replace(models=(fp32,)), "fp32", threads=1) as classifier:
        yield classifier
    wait_for_attempts()
    assert opener.wrong == []


def wait_for_attempts():
    """Wait for the end of the attempts in the background."""
    for thread in threading.enumerate():
        if thread.name == "recovery":
            thread.join(30)


class Gate:
    """Lets a backend be opened on request, and counts the attempts."""

    def __init__(self, error=GONE):
        self.error, self.tries = error, 0
        self.tried, self.open = threading.Event(), threading.Event()

    def __call__(self):
        self.tries += 1
        self.tried.set()
        if not self.open.is_set():
            raise self.error


def fall_back(shared, opener, images, on_open=None):
    """Let the first backend fail; ``on_open`` is called when it is opened again."""
    opener.on_open["onnxruntime"] = on_open or (lambda: None)
    opener.runners[-1].fault = raising(GONE)
    assert shared.classify(images[0]).backend == "opencv"


def wait_for(shared, backend):
    """Wait until the classifier is on a backend."""
    wait_until(lambda: shared.backend == backend)


@pytest.mark.slow
def test_a_better_backend_comes_back_after_its_golden_images_and_without_a_pause(shared, opener, images, caplog):
    caplog.set_level(logging.INFO)
    gate = Gate()
    assert shared.fallback is None
    fall_back(shared, opener, images, gate)
    state = shared.fallback
    assert (state.failed, state.by) == ("fp32 on onnxruntime", "fp32 on opencv")
    assert "the device was lost" in state.reason
    assert state.since > 1.7e9
    assert gate.tried.wait(30)
    assert shared.classify(images[0]).backend == "opencv"
    gate.open.set()
    wait_for(shared, "onnxruntime")
    assert shared.fallback is None
    assert shared.classify(images[0]).backend == "onnxruntime"
    # It classified the golden images before anything else.
    assert opener.runners[-1].inferences == len(images) + 1
    levels = {record.levelname for record in caplog.records if "does not work yet" in record.message}
    assert levels == {"INFO"}
    # The switch comes first, and its message after the replaced runner is freed.
    wait_until(lambda: "fp32 on onnxruntime works again and replaces fp32 on opencv" in caplog.text)


@pytest.mark.slow
def test_threads_go_on_while_backends_fail_and_come_back(shared, opener, images):
    def work(number):
        for turn in range(30):
            if number == 0 and turn % 10 == 5:
                wait_for(shared, "onnxruntime")
                opener.runners[-1].fault = raising(GONE)
            shared.classify(images[turn % len(images)])

    assert in_threads(4, work) == [None] * 4
    assert opener.backends[:3] == ["onnxruntime", "opencv", "onnxruntime"]


def test_a_backend_with_wrong_logits_does_not_come_back(shared, opener, images, monkeypatch):
    checked, check_golden = threading.Event(), selection.check_golden

    def check(bundle, model, runner):
        if runner.backend == "opencv":
            return check_golden(bundle, model, runner)
        checked.set()
        raise BackendError("FAIL: the labels are others")

    monkeypatch.setattr(selection, "check_golden", check)
    fall_back(shared, opener, images)
    assert checked.wait(30)
    assert shared.backend == "opencv"


@pytest.mark.slow
def test_a_backend_that_never_passed_here_is_not_retried(shared, opener, images, bundle):
    opened = open_bundle(bundle)
    fp32 = opened.model("fp32")._replace(backends=("onnxruntime", "opencv"))
    gate = Gate()
    opener.on_open["onnxruntime"] = gate
    with Classifier.open(opened._replace(models=(fp32,)), "fp32") as second:
        assert second.backend == "opencv"
        assert second.fallback is None
        opener.runners[-1].fault = raising(GONE)
        with pytest.raises(BackendError, match="no other model"):
            second.classify(images[0])
    assert gate.tries == 1


@pytest.mark.slow
def test_nothing_is_opened_after_closing_and_what_opens_then_is_closed(shared, opener, images):
    opening, go_on = threading.Event(), threading.Event()
    fall_back(shared, opener, images, lambda: (opening.set(), go_on.wait(30)))
    assert opening.wait(30)
    shared.close()
    go_on.set()
    wait_for_attempts()
    assert opener.backends == ["onnxruntime", "opencv", "onnxruntime"]
    assert shared.backend == "opencv"


def test_a_backend_that_hangs_is_retried_only_a_few_times(shared, opener, images):
    gate = Gate(Hung("fp32 on onnxruntime did not answer within 60 s"))
    fall_back(shared, opener, images, gate)
    wait_for_attempts()
    assert gate.tries == selection.MOST_HUNG
    assert shared.classify(images[0]).backend == "opencv"


def test_a_backend_that_hangs_repeatedly_is_passed_over_in_a_fallback_too(bundle, opener):
    opened = open_bundle(bundle)
    model = opened.model("fp32")
    chosen = selection.Selection(opened, [(model, "onnxruntime"), (model, "opencv")], threads=1)
    for _ in range(2):
        chosen.open_next()[1].close()
    gate = opener.on_open["opencv"] = Gate(Hung("fp32 on opencv did not answer within 60 s"))
    for _ in range(5):
        chosen.use(0)
        with pytest.raises(BackendError, match="fp32 on opencv did not answer within 60 s"):
            chosen.open_next()
    assert gate.tries == selection.MOST_HUNG


class Attempts:
    """A selection whose better backend comes back with some attempts, and what the attempts waited for."""

    def __init__(self, works=()):
        self.works, self.waited, self.left = works, [], True

    def better(self):
        return [0] if self.left and len(self.waited) < 9 else []

    def open_better(self):
        return (0, None, None) if len(self.waited) in self.works else None

    def close(self):
        pass

    # What the thread waits for.
    def wait(self, seconds):
        self.waited.append(seconds)

    def is_set(self):
        return False


def test_attempts_become_rarer_and_stay_rare_for_a_backend_that_fails_at_once():
    attempts = Attempts(works=[3])

    def come_back(*_):
        attempts.left = False

    tried = Recovery(attempts, come_back)
    tried._closing = attempts
    for _ in range(2):
        tried.begin()
        tried.join(30)
        attempts.left = True
    assert attempts.waited == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


@pytest.mark.slow
def test_a_stream_says_when_it_is_degraded_and_restored(shared, opener, images):
    gate = Gate()
    items = follow(shared, FakeCamera(images[:1], loop=True))
    next(items)
    opener.on_open["onnxruntime"] = gate
    opener.runners[0].fault = raising(GONE)
    degraded = next(item for item in items if isinstance(item, StreamEvent))
    gate.open.set()
    restored = next(item for item in items if isinstance(item, StreamEvent))
    items.close()
    assert json.loads(degraded.to_json())["state"] == "degraded"
    assert degraded.reason.startswith("fp32 on onnxruntime is replaced by fp32 on opencv: ")
    assert "the device was lost" in degraded.reason
    assert (restored.state, restored.reason) == ("restored", "classifying with fp32 on onnxruntime again")


def test_a_camera_that_is_back_is_still_reported_as_degraded(shared, opener, images):
    fall_back(shared, opener, images, Gate())
    camera = FakeCamera(images[:1], loop=True, fail_after=2)
    items = follow(shared, camera)
    events = (item.state for item in items if isinstance(item, StreamEvent))
    assert [next(events) for _ in range(4)] == ["degraded", "lost", "live", "degraded"]
    items.close()


def test_another_backend_is_reported_to_sinks_and_systemd_and_is_not_a_loss(shared, opener, images):
    opener.on_open["onnxruntime"] = Gate()
    opener.runners[0].fault = raising(GONE, after=opener.runners[0].inferences + 2)
    sink, systemd = Listener(), Systemd()
    run = Run(shared, FakeCamera(images), [sink], systemd)
    run.go()
    assert sink.items.count("degraded") == 1
    assert "fp32" in systemd.said
    assert (run.summary().losses, run.summary().frames) == (0, len(images))


def test_the_live_page_says_why_it_is_degraded_and_stays_live():
    with LiveSink("127.0.0.1:0", ["a"]) as sink:
        sink.event(StreamEvent("degraded", "a is replaced by b: /usr/lib/x.so is gone", 0.0))
        assert sink.state()["degraded"].startswith("a is replaced by b: ")
        assert "/usr/lib" not in sink.state()["degraded"]
        assert sink.state()["state"] == "silent"
        sink.event(StreamEvent("restored", "a again", 0.0))
        assert sink.state()["degraded"] == ""


@pytest.mark.slow
def test_the_latest_fallback_in_effect_is_shown(bundle, opener, images):
    opened = open_bundle(bundle)
    fp32, int8 = opened.model("fp32"), opened.model("int8-cpu")
    models = (fp32._replace(backends=("onnxruntime", "opencv")), int8._replace(backends=("onnxruntime",)))
    pairs = [(models[0], "onnxruntime"), (models[1], "onnxruntime"), (models[0], "opencv")]
    chosen = selection.Selection(opened, pairs)
    model, runner = chosen.open_next()
    with Classifier(runner, opened.labels, opened.preprocessing, model.name, fallback=chosen) as shared:
        for _ in range(2):
            shared.runner.fault = raising(GONE)
            assert np.isfinite(shared.classify(images[0]).confidence)
        assert (shared.fallback.failed, shared.fallback.by) == ("int8-cpu on onnxruntime", "fp32 on opencv")
        assert chosen.better() == [0, 1]
        index, model, runner = chosen.open_better()
        shared._backends._return_to(index, model, runner)
        assert (shared.fallback, shared.model, shared.backend) == (None, "fp32", "onnxruntime")
        shared.runner.fault = raising(GONE)
        assert shared.classify(images[0]).model == "int8-cpu"
    assert opener.wrong == []


@pytest.mark.slow
def test_attempts_in_the_background_do_not_extend_systemds_watchdog(shared, opener, images, monkeypatch):
    gate, said = Gate(), []

    @contextlib.contextmanager
    def busy(limit_s, words):
        said.append(words)
        yield

    monkeypatch.setattr(notify, "busy", busy)
    fall_back(shared, opener, images, gate)
    assert gate.tried.wait(30)
    gate.open.set()
    wait_for_attempts()
    assert shared.fallback is None
    assert said == ["fp32 on onnxruntime failed; opening another"]
