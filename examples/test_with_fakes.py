"""Tests a program of yours without a model, a camera or a device.

    python3 -m pytest examples/test_with_fakes.py

FakeRunner returns the logits that you give, and FakeCamera returns the images that you give; everything between them is
the real code.  ``alarms`` stands for your own program.
"""

from typing import List

import numpy as np

from edgeclf_runtime import Camera, Classifier
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing

LABELS = ["defective", "functional"]
DEFECTIVE, FUNCTIONAL, UNSURE = [4, 0], [0, 4], [0.1, 0]


def alarms(classifier: Classifier, camera: Camera) -> List[int]:
    """Your program: return the numbers of the frames that show a defect."""
    return [item.frame.number for item in classifier.stream(camera) if item.result.label == "defective"]


def fake_classifier(*logits: List[float]) -> Classifier:
    """Return a classifier that answers frame after frame with these logits."""
    return Classifier(FakeRunner(list(logits)), LABELS, Preprocessing(224, 224), threshold=0.6)


def test_a_defect_raises_an_alarm() -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    with fake_classifier(FUNCTIONAL, DEFECTIVE, FUNCTIONAL) as fake, FakeCamera([frame] * 3) as camera:
        assert alarms(fake, camera) == [1]


def test_an_uncertain_frame_raises_none() -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    with fake_classifier(UNSURE) as fake, FakeCamera([frame]) as camera:
        assert alarms(fake, camera) == []


def test_a_lost_camera_changes_nothing() -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    with fake_classifier(DEFECTIVE) as fake, FakeCamera([frame] * 4, fail_after=2) as camera:
        assert alarms(fake, camera) == [0, 1, 2, 3]
