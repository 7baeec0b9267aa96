import os
import shutil

import cv2
import numpy as np
import pytest

from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.sinks import open_sink, video
from edgeclf_runtime.sinks.video import RATE_FPS, VideoSink, ascii_text, draw_result, letterbox

from .pictures import corners, noise, quarters
from .results import LOST, result

SUFFIXES = (".avi", ".mp4")


def grey(shade, width=320, height=240):
    return np.full((height, width, 3), shade, np.uint8)


def record(path, items, **options):
    with open_sink(path, **options) as sink:
        for item in items:
            sink.write(item)
    return sink


def play(path):
    """The rate and the frames of a video."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    ok, frame = capture.read()
    while ok:
        frames.append(frame)
        ok, frame = capture.read()
    return capture.get(cv2.CAP_PROP_FPS), frames


def shades(frames):
    """The grey of each frame's lower half, rounded to tens."""
    return [int(round(frame[frame.shape[0] // 2 :].mean(), -1)) for frame in frames]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_frame_is_stored_once_at_the_rate_that_is_given(tmp_path, suffix):
    path = tmp_path / ("Film \u00fc" + suffix)
    sink = record(path, [result(i, image=grey(10 * i)) for i in range(20)], fps=25)
    rate, frames = play(path)
    assert (rate, shades(frames), sink.lost) == (25, [10 * i for i in range(20)], 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("stream_fps", [5, 10, 60])
def test_a_live_video_lasts_as_long_as_the_stream_did(tmp_path, monkeypatch, suffix, stream_fps):
    monkeypatch.setattr(video, "QUEUE_FRAMES", 0)  # no bound: the test is faster than any stream
    items = [result(i, image=grey(10), seconds=i / stream_fps) for i in range(2 * stream_fps)]
    record(tmp_path / ("v" + suffix), items)
    rate, frames = play(tmp_path / ("v" + suffix))
    assert len(frames) / rate == pytest.approx(2 - 1 / stream_fps, abs=1.5 / RATE_FPS)


def test_a_camera_that_was_lost_does_not_make_the_video_stand_still_for_so_long(tmp_path):
    with VideoSink(tmp_path / "v.avi") as sink:
        sink.write(result(0, image=grey(50), seconds=0))
        sink.event(LOST)
        sink.write(result(1, image=grey(100), seconds=3600))
        sink.write(result(2, image=grey(150), seconds=3600 + 1 / RATE_FPS))
    assert shades(play(tmp_path / "v.avi")[1]) == [50] + [100] * RATE_FPS + [150]


def test_the_first_frame_gives_the_size_and_others_are_fitted_into_it(tmp_path):
    images = [grey(200, 321, 241), grey(200, 100, 240), grey(200, 640, 480)]
    record(tmp_path / "v.avi", [result(i, image=image) for i, image in enumerate(images)], fps=10)
    first, narrow, large = play(tmp_path / "v.avi")[1]
    assert first.shape == narrow.shape == large.shape == (240, 320, 3)
    assert narrow[200, 160].min() > 190 > 10 > narrow[200, 100].max()
    assert large[200, 5].min() > 190


def test_fitting_keeps_what_is_in_the_picture():
    assert corners(letterbox(quarters(64, 32), (32, 64))[24:40]) == corners(quarters())


@pytest.mark.parametrize("shade", [0, 128, 255])
@pytest.mark.parametrize("size", [(96, 96), (640, 480), (1920, 1080), (480, 1920)])
def test_the_label_stands_out_on_bright_and_on_dark(shade, size):
    image = grey(shade, *size)
    draw_result(image, result(label="tabby cat"))
    band = image[: min(size) // 10]
    assert band.max() > 240
    assert np.percentile(band, 25) <= 64
    assert (image[size[1] // 2 :] == shade).all()


def test_a_long_label_is_made_to_fit(tmp_path):
    image = grey(0)
    draw_result(image, result(label="a label as long as those of a thousand classes can be, with synonyms"))
    assert image[:, :310].max() > 0 == image[:, 316:].max()


def test_different_results_look_different():
    pictures = set()
    for item in (result(), result(label="dog"), result(confidence=0.5), result()._replace(age_ms=900.0)):
        image = grey(0)
        draw_result(image, item)
        pictures.add(image.tobytes())
    assert len(pictures) == 4


def test_the_pictures_of_the_stream_are_left_as_they_were(tmp_path):
    image = noise(64, 48)
    record(tmp_path / "v.avi", [result(image=image)])
    assert (image == noise(64, 48)).all()


def test_letters_that_cannot_be_drawn_lose_their_accents_or_become_question_marks():
    assert ascii_text("T\u00fcr \u00e9tage \u732b") == "Tur etage ?"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_appears_when_it_is_whole(tmp_path, suffix):
    path = tmp_path / ("v" + suffix)
    with VideoSink(path) as sink:
        sink.write(result())
        assert not path.exists()
    assert os.listdir(str(tmp_path)) == [path.name]


def test_without_a_frame_there_is_no_file(tmp_path, caplog):
    sink = record(tmp_path / "v.mp4", [])
    sink.close()
    assert os.listdir(str(tmp_path)) == []
    assert "there was no frame, so there is no video" in caplog.text


def test_a_file_that_is_there_is_refused_at_once(tmp_path):
    (tmp_path / "v.mp4").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        VideoSink(tmp_path / "v.mp4")
    assert (tmp_path / "v.mp4").read_text() == "mine"


def test_a_suffix_that_is_no_video_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(OutputError, match=r"ends in \.avi or \.mp4"):
        VideoSink(tmp_path / "v.webm")
    assert os.listdir(str(tmp_path)) == []


def test_a_disk_with_little_left_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "MIN_FREE_BYTES", shutil.disk_usage(str(tmp_path)).total)
    with pytest.raises(OutputError, match=r"less than .* MB of its disk are free"):
        VideoSink(tmp_path / "v.mp4")
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_becomes_full_ends_the_video_which_can_be_played(small_disk, caplog, monkeypatch, suffix):
    folder = small_disk("4m")
    monkeypatch.setattr(video, "MIN_FREE_BYTES", 2_000_000)
    # A picture that shrinks little, and another each time.
    items = [result(i, image=np.roll(noise(640, 480), 37 * i, 1)) for i in range(60)]
    sink = record(folder / ("v" + suffix), items, fps=10)
    frames = play(folder / ("v" + suffix))[1]
    assert len(frames) + sink.lost == 60
    assert 1 < len(frames) < 60
    assert os.listdir(str(folder)) == ["v" + suffix]
    assert len(caplog.messages) == 1
    assert "the video ends here, later frames are lost" in caplog.text


def test_a_folder_that_vanishes_is_told_and_stops_nothing(tmp_path, caplog):
    (tmp_path / "stick").mkdir()
    with VideoSink(tmp_path / "stick" / "v.avi", fps=10) as sink:
        shutil.rmtree(str(tmp_path / "stick"))
        sink.write(result())
    assert sink.lost == 1
    assert "cannot be written (No such file or directory)" in caplog.text


def test_a_frame_that_opencv_refuses_ends_the_video_and_not_the_stream(tmp_path, caplog):
    items = [result(i, image=np.zeros((0, 0, 3), np.uint8) if i == 5 else noise(64, 48)) for i in range(20)]
    sink = record(tmp_path / "v.avi", items, fps=10)
    assert len(play(tmp_path / "v.avi")[1]) == 5
    assert sink.lost == 15
    assert len(caplog.messages) == 1
