import json
import threading

import numpy as np
import pytest

from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.errors import BackendError, CameraError, ImageError
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.results import StreamEvent, StreamResult
from edgeclf_runtime.streaming.smoothing import Smoother
from edgeclf_runtime.streaming.stream import follow, stream
from tests.support.pictures import encode, noise


@pytest.fixture(scope="module")
def lines(bundle, tmp_path_factory):
    """The lines of a stream of three frames."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(3):
        (folder / f"Bild \u00fc {number}.png").write_bytes(encode(".png", noise(64 + number, 48)))
    with Classifier.open(bundle, "fp32") as classifier, open_camera(folder) as camera:
        return [json.loads(item.to_json().encode("ascii").decode("ascii")) for item in stream(classifier, camera)]


def test_each_frame_gives_one_line_in_the_order_of_capture(lines):
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert [line["name"] for line in lines] == ["Bild \u00fc 0.png", "Bild \u00fc 1.png", "Bild \u00fc 2.png"]
    assert sorted(line["captured_at"] for line in lines) == [line["captured_at"] for line in lines]


def test_a_line_holds_label_confidence_top_time_age_and_every_stage(lines):
    for line in lines:
        assert line["label"] == line["top"][0]["label"]
        assert 0 < line["confidence"] <= 1
        assert list(line["timings_ms"]) == ["capture", "preprocess", "inference", "postprocess"]


def test_the_age_runs_from_the_capture_to_the_label(lines):
    for line in lines:
        assert line["age_ms"] >= sum(line["timings_ms"].values()) - 0.01


def test_a_lost_source_is_an_error_and_not_the_end(bundle, tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with Classifier.open(bundle, "fp32") as classifier:
        results = stream(classifier, open_camera(tmp_path))
        with pytest.raises(CameraError, match="none of 1 images could be read"):
            next(results)


FRAME = np.zeros((48, 64, 3), np.uint8)


def fake(logits, **options):
    return Classifier(FakeRunner(logits, **options), ["cat", "dog"], Preprocessing(8, 8))


def test_a_loss_and_the_return_are_reported():
    camera = FakeCamera([FRAME] * 4, fail_after=2)
    items = [item for item in follow(fake([1, 0]), camera) if item is not None]
    assert [type(item) for item in items] == [StreamResult] * 2 + [StreamEvent] * 2 + [StreamResult] * 2
    lost, live = items[2:4]
    assert lost.to_dict()["state"] == "lost"
    assert lost.reason == "the fake camera is lost after 2 frames, as requested"
    assert live.to_dict()["state"] == "live"
    assert live.reason.startswith("back after ")
    assert {item.to_dict()["state"] for item in items[4:]} == {"live"}


def test_a_stream_yields_only_results():
    camera = FakeCamera([FRAME] * 4, fail_after=2)
    assert [type(item) for item in stream(fake([1, 0]), camera)] == [StreamResult] * 4


def test_a_classifier_streams_a_camera():
    results = fake([[1, 0], [0, 1]]).stream(FakeCamera([FRAME] * 3))
    assert [item.result.label for item in results] == ["cat", "dog", "cat"]


def test_labels_do_not_flicker_when_they_are_smoothed():
    flickering = [[3, 0]] * 5 + [[0, 3]] + [[3, 0]] * 5
    raw = [item.result.label for item in stream(fake(flickering), FakeCamera([FRAME] * 11))]
    smooth = [item.result.label for item in stream(fake(flickering), FakeCamera([FRAME] * 11), Smoother(5.0))]
    assert raw.count("dog") == 1
    assert smooth == ["cat"] * 11


def test_smoothing_starts_over_after_a_loss():
    camera = FakeCamera([FRAME] * 6, fail_after=3)
    results = stream(fake([[3, 0]] * 3 + [[0, 3]] * 3), camera, Smoother(60.0))
    assert [item.result.label for item in results] == ["cat"] * 3 + ["dog"] * 3


def test_a_stream_without_frames_stays_alive(monkeypatch):
    monkeypatch.setattr("edgeclf_runtime.streaming.stream.IDLE_S", 0.01)
    items = follow(fake([1, 0]), FakeCamera([FRAME] * 2, fps=5))
    found = [type(item).__name__ for item in items]
    assert found.count("StreamResult") == 2
    assert "NoneType" in found


def test_every_frame_of_a_file_is_classified_however_slow_the_backend():
    class Slow(FakeRunner):
        def infer(self, batch):
            threading.Event().wait(0.01)
            return super().infer(batch)

    classifier = Classifier(Slow([1, 0]), ["cat", "dog"], Preprocessing(8, 8))
    numbers = [(item.frame.number, item.dropped) for item in stream(classifier, FakeCamera([FRAME] * 20))]
    assert numbers == [(number, 0) for number in range(20)]


def test_the_newest_frame_of_a_live_camera_is_classified_and_the_others_are_counted():
    class Live(FakeCamera):
        policy = "latest"

    class Gate(FakeRunner):
        def infer(self, batch):
            opened.wait(30)
            return super().infer(batch)

    opened = threading.Event()
    camera = Live([FRAME] * 50)
    classifier = Classifier(Gate([1, 0]), ["cat", "dog"], Preprocessing(8, 8))
    threading.Timer(0.5, opened.set).start()
    items = list(stream(classifier, camera))
    assert items[-1].frame.number == 49
    assert len(items) <= 3
    assert len(items) + items[-1].dropped == 50


def test_leaving_a_stream_ends_its_threads(new_threads):
    items = stream(fake([1, 0]), FakeCamera([FRAME], loop=True))
    next(items)
    assert len(new_threads()) == 2
    items.close()
    assert not new_threads()


def test_an_error_in_the_thread_is_raised_by_the_stream():
    with pytest.raises(ImageError, match="region"):
        list(stream(fake([1, 0]), FakeCamera([FRAME]), roi=(0, 0, 1000, 1000)))
    with pytest.raises(BackendError, match="as requested"):
        list(stream(fake([1, 0], fail_after=1), FakeCamera([FRAME] * 2)))


class Concurrent(FakeRunner):
    concurrent = True


def test_frames_of_a_file_are_inferred_in_parallel_and_reported_in_order():
    class Meet(Concurrent):
        def infer(self, batch):
            met.wait(30)  # for ever, unless another frame is inferred too
            return np.array([[float(batch.max()), 0]], np.float32)

    met = threading.Barrier(2)
    frames = [np.full_like(FRAME, number) for number in range(6)]
    classifier = Classifier(Meet([1, 0]), ["cat", "dog"], Preprocessing(8, 8), at_once=2)
    items = list(stream(classifier, FakeCamera(frames)))
    assert [item.frame.number for item in items] == list(range(6))
    confidences = [item.result.confidences[0] for item in items]
    assert confidences == sorted(confidences)
    assert len(set(confidences)) == 6


def test_frames_of_a_live_camera_are_inferred_one_after_another(new_threads):
    class Live(FakeCamera):
        policy = "latest"

    classifier = Classifier(Concurrent([1, 0]), ["cat", "dog"], Preprocessing(8, 8), at_once=2)
    items = stream(classifier, Live([FRAME], fps=50, loop=True))
    next(items)
    assert len(new_threads()) == 2
    items.close()


def test_an_error_in_one_of_several_threads_is_raised_by_the_stream():
    classifier = Classifier(Concurrent([1, 0], fail_after=3), ["cat", "dog"], Preprocessing(8, 8), at_once=2)
    with pytest.raises(BackendError, match="as requested"):
        list(stream(classifier, FakeCamera([FRAME] * 9)))
