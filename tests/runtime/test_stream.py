import json

import pytest

from edgeclf_runtime.camera import open_camera
from edgeclf_runtime.classifier import Classifier
from edgeclf_runtime.errors import CameraError
from edgeclf_runtime.stream import stream

from .pictures import encode, noise


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


def test_a_source_that_is_lost_is_an_error_and_no_end(bundle, tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with Classifier.open(bundle, "fp32") as classifier:
        results = stream(classifier, open_camera(tmp_path))
        with pytest.raises(CameraError, match="none of 1 images could be read"):
            next(results)
