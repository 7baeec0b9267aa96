import numpy as np

from edgeclf_runtime.classifier import Classifier
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.preprocess import Preprocessing
from edgeclf_runtime.run import Run
from edgeclf_runtime.sinks.base import Sink

FRAME = np.zeros((48, 64, 3), np.uint8)


class Listener(Sink):
    """Keeps what it is told."""

    def __init__(self):
        self.items = []

    def write(self, item):
        self.items.append(item.frame.number)

    def event(self, event):
        self.items.append(event.state)


class Systemd:
    """Keeps what systemd would be told."""

    def __init__(self):
        self.said = []

    def ready(self, status):
        self.said.append("ready: " + status)

    def status(self, status):
        self.said.append(status.split(" ")[0])

    def alive(self):
        self.said.append("alive")

    def stopping(self):
        self.said.append("stopping")


def go(camera, **options):
    classifier = Classifier(FakeRunner([1, 0]), ["cat", "dog"], Preprocessing(8, 8), model="fp32")
    sinks, systemd = [Listener(), Listener()], Systemd()
    run = Run(classifier, camera, sinks, systemd)
    run.go(**options)
    return run.summary(), [sink.items for sink in sinks], systemd.said


def test_every_sink_is_told_of_every_frame_and_every_loss():
    summary, told, _ = go(FakeCamera([FRAME] * 3, fail_after=2))
    assert told == [[0, 1, "lost", "live", 2]] * 2
    assert summary.to_dict() == {"frames": 3, "dropped": 0, "skipped": 0, "losses": 1}
    assert str(summary) == "3 frames classified, 0 dropped, 0 unreadable, camera lost 1 times"


def test_systemd_is_told_when_the_first_frame_has_its_label_and_that_it_goes_on():
    _, _, said = go(FakeCamera([FRAME] * 3, fail_after=2))
    assert said == [
        "alive",
        "ready: classifying by fp32 on fake",
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
