import json

import numpy as np
import pytest

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.streaming.health.watch import Health
from edgeclf_runtime.streaming.stream import StreamEvent, follow
from tests.support.scenes import SIDE, scene, tinted, training

LABELS = ("empty", "full")


@pytest.fixture(scope="module")
def baseline():
    return training()


def run(health, change=lambda picture: picture, frames=260):
    """Classify pictures of a camera; returns the events."""
    pictures = [np.ascontiguousarray(change(scene(number))[:, :, ::-1]) for number in range(1000, 1000 + frames)]
    runner = FakeRunner([[3, 0], [0, 3]])
    with Classifier(runner, LABELS, Preprocessing(SIDE, SIDE)) as classifier, FakeCamera(pictures) as camera:
        items = list(follow(classifier, camera, health=health))
    health.close()
    return [item for item in items if isinstance(item, StreamEvent)]


def test_a_stream_reports_what_has_changed(baseline, tmp_path):
    events = run(Health(baseline, LABELS, path=str(tmp_path / "state.json"), every=1), tinted)
    assert [(event.state, event.verdicts) for event in events] == [("changed", ("color cast",))]
    assert json.loads(events[0].to_json())["verdicts"] == ["color cast"]
    assert "red against blue is" in events[0].reason


def test_a_stream_as_in_training_reports_nothing(baseline):
    assert run(Health(baseline, LABELS, every=1)) == []


def test_a_restart_reports_again_what_still_holds(baseline, tmp_path):
    path = str(tmp_path / "state.json")
    run(Health(baseline, LABELS, path=path, every=1), tinted)
    events = run(Health(baseline, LABELS, path=path, every=1), tinted, frames=3)
    assert [event.verdicts for event in events] == [("color cast",)]


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 100, b'{"version": 1}'])
def test_a_damaged_state_is_ignored_with_a_warning(baseline, tmp_path, content, caplog):
    path = tmp_path / "state.json"
    path.write_bytes(content)
    assert Health(baseline, LABELS, path=str(path)).active == ()
    assert "cannot be used" in caplog.text


def test_a_state_of_other_labels_is_ignored_with_a_warning(baseline, tmp_path, caplog):
    path = str(tmp_path / "state.json")
    run(Health(baseline, LABELS, path=path, every=1), frames=3)
    Health(baseline._replace(labels=None), ("a", "b", "c"), path=path)
    assert "labels is 2; 3 was expected" in caplog.text


def test_images_are_measured_five_times_a_second_at_most(baseline):
    health = Health(baseline, LABELS)
    batch = scene(1).astype(np.float32)[None]
    for _ in range(20):
        health.see(batch)
    assert len(health._seen) == 1
