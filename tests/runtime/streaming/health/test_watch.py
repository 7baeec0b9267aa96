import json

import numpy as np
import pytest

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.results import Result
from edgeclf_runtime.streaming.health.learning import Learner
from edgeclf_runtime.streaming.health.watch import Health
from edgeclf_runtime.streaming.smoothing import Smoother
from edgeclf_runtime.streaming.stream import StreamEvent, follow
from tests.support.scenes import SIDE, scene, tinted, training

LABELS = ("empty", "full")


@pytest.fixture(scope="module")
def baseline():
    return training()


def run(health, change=lambda picture: picture, frames=260, smoother=None):
    """Classify pictures of a camera; returns the events."""
    pictures = [np.ascontiguousarray(change(scene(number))[:, :, ::-1]) for number in range(1000, 1000 + frames)]
    # In no order: of labels in turn, a busy machine might watch every second one, always the same.
    runner = FakeRunner(3 * np.eye(2)[np.random.default_rng(0).permutation(frames) % 2])
    with Classifier(runner, LABELS, Preprocessing(SIDE, SIDE)) as classifier, FakeCamera(pictures) as camera:
        items = list(follow(classifier, camera, smoother, health=health))
    health.close()
    return [item for item in items if isinstance(item, StreamEvent)]


def test_a_stream_reports_what_has_changed(baseline, tmp_path):
    events = run(Health(baseline, LABELS, path=str(tmp_path / "state.json"), every=1), tinted)
    assert [(event.state, event.verdicts) for event in events] == [("changed", ("color cast",))]
    assert json.loads(events[0].to_json())["verdicts"] == ["color cast"]
    assert "red against blue is" in events[0].reason


def test_a_stream_as_in_training_reports_nothing(baseline):
    assert run(Health(baseline, LABELS, every=1)) == []


def test_smoothed_confidences_of_different_objects_are_not_a_new_kind_of_image(baseline):
    assert run(Health(baseline, LABELS, every=1), smoother=Smoother(2.0)) == []


def result_of(model, distance=None, confidence=0.9):
    return Result("full", confidence, [("full", confidence)], {}, model, "fake", distance=distance)


def changes(health, results):
    """Show one picture for each result; returns the verdicts that begin."""
    found = []
    for number, result in enumerate(results):
        health.see(scene(1000 + number).astype(np.float32)[None])
        found += [change.verdict for change in health.take(result) if change.active]
    return found


def test_each_model_has_its_own_usual_distance(baseline):
    baseline = baseline._replace(labels=None)
    distances = {"fp32": 2.0, "int8-cpu": 5.0}
    worse = [result_of("int8-cpu", 4.0)] * 300
    assert changes(Health(baseline, LABELS, every=1, distances=distances), worse) == []
    better = [result_of("fp32", 4.0)] * 300
    assert changes(Health(baseline, LABELS, every=1, distances=distances), better) == ["new kind of image"]


def test_only_distances_are_watched_without_results(baseline):
    health = Health(baseline, LABELS, every=1, results=False, distances={"fp32": 2.0})
    assert changes(health, [result_of("fp32", 1.0, confidence=0.1)] * 200) == []
    assert changes(health, [result_of("fp32", 4.0)] * 300) == ["new kind of image"]


def test_a_site_that_was_learned_keeps_the_distances(baseline, tmp_path):
    health = Health(baseline, LABELS, str(tmp_path / "state.json"), learn="relearn", every=1, distances={"fp32": 2.0})
    health._learner = Learner(baseline, images=200)
    far = [result_of("fp32", 4.0)] * 300
    assert changes(health, far[:200]) == []
    assert changes(health, far) == ["new kind of image"]


def test_a_restart_reports_again_what_still_holds(baseline, tmp_path):
    path = str(tmp_path / "state.json")
    run(Health(baseline, LABELS, path=path, every=1), tinted)
    events = run(Health(baseline, LABELS, path=path, every=1), tinted, frames=3)
    assert [event.verdicts for event in events] == [("color cast",)]


STATE = b'{"version": 1, "labels": 2, "evidence": {"dark": [1.5]}, "active": {}, "learned": null}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\0" * 100,
        b'{"version": 1}',
        STATE.replace(b"1.5", b"NaN"),
        STATE.replace(b"1.5", b"1e999"),
        STATE.replace(b"1.5", b"-1"),
        STATE.replace(b"1.5", b"9" * 5000),
        STATE.replace(b": 1,", b": 2,"),
        STATE.replace(b"null", b"{}"),
        STATE[:-9],
        STATE + b" " * (65 << 10),
        b"[" * 60000,
    ],
)
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


def test_a_state_that_is_not_a_file_is_ignored_with_a_warning(baseline, tmp_path, caplog):
    health = Health(baseline, LABELS, path=str(tmp_path))
    health.close()
    assert "cannot be used" in caplog.text
    assert "cannot be written" in caplog.text


def test_a_state_with_more_than_this_monitor_has_is_used(baseline, tmp_path):
    path = tmp_path / "state.json"
    state = json.loads(STATE.decode())
    state.update(evidence={"dark": [100], "blurred": [1, 2], "haunted": [3]}, active={"haunted": 1, "dark": 10**18})
    path.write_text(json.dumps(state))
    health = Health(baseline, LABELS, path=str(path), every=1)
    assert health.active == ("dark",)
    assert health.reason == "dark"
    assert run(health, frames=60)[-1].state == "changed"


def test_images_are_measured_five_times_a_second_at_most(baseline):
    health = Health(baseline, LABELS)
    batch = scene(1).astype(np.float32)[None]
    for _ in range(20):
        health.see(batch)
    assert len(health._seen) == 1
