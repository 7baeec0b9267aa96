"""A video around each event is on disk, and the disk never fills."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest

from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.sinks.actions import clips
from edgeclf_runtime.sinks.actions.clips import ClipSink
from tests.support.results import LOST, came, result, went

RATE = clips.RATE_FPS


def frame(number, size=(64, 48), seconds=None):
    """A frame of its own gray at its time: 15 a second, or a video's position."""
    width, height = size
    image = np.full((height, width, 3), number % 250, np.uint8)
    item = result(number, image=image, seconds=number / RATE)
    return item._replace(frame=item.frame._replace(position_s=seconds))


def play(folder, steps, **options):
    """Give frames (numbers) and events to a sink, whose folder is returned as names and videos."""
    with ClipSink(folder, wait=True, **options) as sink:
        for step in steps:
            if isinstance(step, int):
                sink.write(frame(step))
            elif hasattr(step, "state"):
                sink.event(step)
            else:
                sink.label_event(step)
    return found(folder)


def found(folder):
    """The frames' grays of each clip, and the JSON beside it, by name."""
    clips = {}
    for name in sorted(os.listdir(str(folder))):
        if name.startswith("clip-") and name.endswith(".mp4"):
            about = json.loads((folder / (name[:-4] + ".json")).read_text(encoding="utf-8"))
            clips[name] = (grays(folder / name), about)
    return clips


def grays(path):
    video, found = cv2.VideoCapture(str(path)), []
    while True:
        good, image = video.read()
        if not good:
            return found
        found.append(round(float(image.mean())))


def test_a_clip_is_from_before_the_event_until_after_it(tmp_path):
    start, end = came(120), went(120, duration_s=2.0)
    [(name, (shown, about))] = play(tmp_path, [*range(120), start, *range(120, 150), end, *range(150, 240)]).items()
    assert name.startswith("clip-0000000001-20231114T2213")
    assert name.endswith("-cat.mp4")
    assert shown[0] == pytest.approx(119 - clips.BEFORE_S * RATE, abs=3)
    assert shown[-1] == pytest.approx(149 + clips.AFTER_S * RATE, abs=3)
    assert len(shown) == pytest.approx(shown[-1] - shown[0] + 1, abs=2)
    assert about == {"seconds": pytest.approx(len(shown) / RATE, abs=0.1), "events": [end.to_dict()]}


def test_events_that_overlap_share_a_clip_and_others_have_their_own(tmp_path):
    steps = [*range(30), came(30, id="a"), *range(30, 45), came(45, "dog", id="b"), *range(45, 60), went(30, id="a")]
    steps += [*range(60, 75), went(45, label="dog", id="b"), *range(75, 150), came(150, id="c"), *range(150, 160)]
    first, second = play(tmp_path, steps).values()
    assert [event["id"] for event in first[1]["events"]] == ["a", "b"]
    assert first[0][-1] == pytest.approx(74 + clips.AFTER_S * RATE, abs=3)
    assert [(event["id"], event["event"]) for event in second[1]["events"]] == [("c", "start")]


def test_a_long_event_has_a_clip_of_a_minute(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "LONGEST_S", 4.0)
    [(shown, _)] = play(tmp_path, [*range(30), came(30), *range(30, 150), went(30), *range(150, 170)]).values()
    assert len(shown) == pytest.approx(4.0 * RATE, abs=2)


@pytest.mark.parametrize("what", [LOST, None])
def test_a_clip_ends_with_the_camera_and_with_the_run(tmp_path, what):
    steps = [*range(30), came(30), *range(30, 40), *([what] if what else [])]
    [(shown, about)] = play(tmp_path, steps).values()
    assert shown[-1] == pytest.approx(39, abs=2)
    assert about["events"][0]["event"] == "start"


def test_without_an_event_nothing_is_written(tmp_path):
    assert play(tmp_path, range(100)) == {}
    assert os.listdir(str(tmp_path)) == []


def test_more_frames_than_the_rate_are_thinned_and_a_gap_is_shortened(tmp_path):
    with ClipSink(tmp_path, wait=True) as sink:
        for number in range(60):
            sink.write(frame(number, seconds=number / 60))
        sink.label_event(came(60))
        sink.write(frame(61, seconds=30.0))
    [(shown, _)] = found(tmp_path).values()
    assert len(shown) == pytest.approx(RATE + RATE, abs=3)


def test_another_size_is_fitted_into_a_clip_and_odd_sides_are_cut(tmp_path):
    with ClipSink(tmp_path, wait=True) as sink:
        for number in range(100, 110):
            sink.write(frame(number, (65, 49)))
        sink.label_event(came(10))
        sink.write(frame(110, (64, 64)))
    [(shown, _)] = found(tmp_path).values()
    [name] = [name for name in os.listdir(str(tmp_path)) if name.endswith(".mp4")]
    video = cv2.VideoCapture(str(tmp_path / name))
    assert (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 48)
    assert len(shown) == 11
    assert shown[-1] == pytest.approx(110 * 48 / 64, abs=4)  # with black bars


def test_the_oldest_clips_are_deleted_and_nothing_else(tmp_path):
    (tmp_path / "holiday.mp4").write_bytes(b"mine")
    steps = []
    for turn in range(4):
        at = 200 * turn
        events = came(at + 30, id=str(turn)), went(at + 30, id=str(turn))
        steps += [*range(at, at + 30), events[0], *range(at + 30, at + 40), events[1], *range(at + 40, at + 100)]
    play(tmp_path, steps, max_bytes=200_000)
    kept = [name for name in os.listdir(str(tmp_path)) if name.startswith("clip-")]
    assert sum((tmp_path / name).stat().st_size for name in kept) <= 200_000
    assert "clip-0000000001" not in {name[:15] for name in kept}
    assert "clip-0000000004" in {name[:15] for name in kept}
    assert (tmp_path / "holiday.mp4").read_bytes() == b"mine"


def test_a_folder_that_goes_is_reported_once_and_never_stops_the_stream(tmp_path, caplog):
    folder = tmp_path / "clips"
    with ClipSink(folder, wait=True) as sink:
        for number in range(10):
            sink.write(frame(number))
        shutil.rmtree(str(folder))
        for turn in range(3):
            sink.label_event(came(10, id=str(turn)))
    assert sink.lost == 3
    assert caplog.text.count("clips are lost") == 1


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "clips").write_text("")
    with pytest.raises(OutputError):
        ClipSink(tmp_path / "clips")
