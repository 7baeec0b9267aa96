import collections
import contextlib

import numpy as np
import pytest

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.errors import CameraLost
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.sinks.base import Sink
from edgeclf_runtime.streaming.event_rules import parse_rule
from edgeclf_runtime.streaming.label_events import LabelEvents
from edgeclf_runtime.streaming.run_loop import Run

FRAME = np.zeros((48, 64, 3), np.uint8)
Model = collections.namedtuple("Model", "name temperature threshold")


class Listener(Sink):
    """Keeps everything that it receives."""

    def __init__(self):
        self.items = []

    def write(self, item):
        self.items.append(item.frame.number)

    def event(self, event):
        self.items.append(event.state)

    def label_event(self, event):
        self.items.append((event.label, event.end.reason if event.end else "start"))


class Systemd:
    """Keeps the messages for systemd."""

    def __init__(self):
        self.said = []

    def ready(self, status):
        self.said.append("ready: " + status)

    def status(self, status):
        self.said.append(status.split(" ")[0])

    def alive(self):
        self.said.append("alive")

    @contextlib.contextmanager
    def busy(self, limit_s, words):
        self.said.append("busy")
        yield
        self.said.append("not busy")

    def progress(self, limit_s):
        pass

    def stopping(self):
        self.said.append("stopping")


class Absent(FakeCamera):
    """A camera that is missing at first."""

    def __init__(self, images):
        super().__init__(images)
        self._absent = True

    def read(self, timeout_s=None):
        if self._absent:
            self._absent = False
            raise CameraLost("/dev/video0 is not there")
        return super().read(timeout_s)


def go(camera, runner=None, fallback=None, rules=(), **options):
    runner = runner or FakeRunner([1, 0])
    classifier = Classifier(runner, ["cat", "dog"], Preprocessing(8, 8), model="fp32", fallback=fallback)
    sinks, systemd = [Listener(), Listener()], Systemd()
    events = LabelEvents([parse_rule(rule) for rule in rules], ["cat", "dog"])
    run = Run(classifier, camera, sinks, systemd, events)
    run.go(**options)
    return run.summary(), [sink.items for sink in sinks], systemd.said


def test_every_sink_gets_every_frame_and_every_loss():
    summary, told, _ = go(FakeCamera([FRAME] * 3, fail_after=2))
    assert told == [[0, 1, "lost", "live", 2]] * 2
    assert summary.to_dict() == {"frames": 3, "dropped": 0, "skipped": 0, "losses": 1}
    assert str(summary) == "3 frames classified, 0 dropped, 0 unreadable, camera lost 1 time"


def test_every_sink_gets_the_events_of_labels_and_the_end_of_the_run_ends_them():
    runner = FakeRunner([[9, 0]] * 4 + [[0, 9]] * 4)
    # As images: 15 a second.
    _, told, _ = go(FakeCamera([FRAME] * 8), runner, rules=["*: hold=0.1"])
    cat, dog = "cat", "dog"
    assert (
        told
        == [
            [0, 1, 2, (cat, "start"), 3, 4, 5, 6, (cat, "left"), (dog, "start"), 7, (dog, "stopped")],
        ]
        * 2
    )


def test_a_lost_camera_ends_the_event_of_a_label():
    _, told, _ = go(FakeCamera([FRAME] * 4, fail_after=2), FakeRunner([9, 0]), rules=["cat: hold=0"])
    assert told[0] == [
        *(0, ("cat", "start"), 1, "lost", ("cat", "lost")),
        *("live", 2, ("cat", "start"), 3, ("cat", "stopped")),
    ]


def test_a_sink_that_fails_does_not_keep_the_end_of_an_event_from_the_others():
    class Closed(Listener):
        def write(self, item):
            if item.frame.number == 2:
                raise BrokenPipeError

        def label_event(self, event):
            if event.end:
                raise BrokenPipeError

    classifier = Classifier(FakeRunner([9, 0]), ["cat", "dog"], Preprocessing(8, 8))
    closed, open_ = Closed(), Listener()
    run = Run(
        classifier,
        FakeCamera([FRAME] * 4),
        [closed, open_],
        Systemd(),
        LabelEvents([parse_rule("*: hold=0")], ["cat", "dog"]),
    )
    with pytest.raises(BrokenPipeError):
        run.go()
    assert open_.items == [0, ("cat", "start"), 1, ("cat", "stopped")]


def test_the_summary_counts_undelivered_results_by_reason():
    classifier = Classifier(FakeRunner([1, 0]), ["cat", "dog"], Preprocessing(8, 8), model="fp32")
    sink = Listener()
    sink.name = "new/"
    run = Run(classifier, FakeCamera([FRAME]), [sink, Listener()], Systemd())
    run.go()
    for reason in ("too fast", OSError(28, "No space left on device"), "too fast"):
        sink.lose(reason)
    assert str(run.summary()).endswith("; lost for new/: 2 (too fast), 1 (No space left on device)")
    assert run.summary().to_dict()["undelivered"] == {"new/": {"too fast": 2, "No space left on device": 1}}


def test_reasons_without_number_are_counted_together():
    sink = Listener()
    for number in range(100):
        sink.lose(f"file {number} exists")
    assert sink.lost == 100
    assert len(sink.losses) == 5
    assert sink.losses["other reasons"] == 96


def test_systemd_is_notified_of_the_first_label_and_of_progress():
    _, _, said = go(FakeCamera([FRAME] * 3, fail_after=2))
    assert said == [
        "alive",
        "ready: classifying with fp32 on fake",
        "alive",
        "alive",
        "the",
        "alive",
        "back",
        "alive",
        "stopping",
    ]


def test_it_stops_after_the_frames_that_were_asked_for():
    summary, told, _ = go(FakeCamera([FRAME], loop=True), frames=5)
    assert summary.frames == 5
    assert told[0] == [0, 1, 2, 3, 4]


def test_a_service_without_its_camera_is_ready_and_says_what_it_waits_for():
    _, told, said = go(Absent([FRAME]))
    assert said == [
        "alive",
        "ready: waiting for the camera: /dev/video0 is not there",
        "alive",
        "back",
        "alive",
        "classifying",
        "stopping",
    ]
    assert told[0] == ["lost", "live", 0]


def test_events_before_the_first_frame_are_not_taken_for_a_missing_camera():
    class Granting(FakeCamera):
        mode = "640x480 YUYV at 30 granted"

    assert "ready: 640x480 YUYV at 30 granted" in go(Granting([FRAME]))[2]


def test_systemd_is_notified_of_a_fallback_and_of_its_result():
    class Second:
        def open_next(self):
            return Model("fp16", 1.0, 0.0), FakeRunner([1, 0])

    _, _, said = go(FakeCamera([FRAME] * 2), FakeRunner([1, 0], fail_after=1), Second())
    # The next inference fails while the last one's label is written, or before.
    assert said.count("ready: classifying with fp32 on fake") == 1
    assert said.index("busy") < said.index("not busy") < said.index("classifying")
