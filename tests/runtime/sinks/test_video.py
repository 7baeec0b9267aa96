import os
import shutil
import sys
import threading

import cv2
import numpy as np
import pytest

from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.sinks import open_sink, video
from edgeclf_runtime.sinks.movies import h264
from edgeclf_runtime.sinks.recordings import free_name
from edgeclf_runtime.sinks.video import RATE_FPS, VideoSink, ascii_text, draw_result, letterbox
from edgeclf_runtime.sinks.worker import Worker
from tests.support.pictures import corners, noise, quarters
from tests.support.results import LOST, result

SUFFIXES = (".avi", ".mp4", ".webm")


def gray(shade, width=320, height=240):
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
    """The gray level of each frame's lower half, rounded to tens."""
    return [int(round(frame[frame.shape[0] // 2 :].mean(), -1)) for frame in frames]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_frame_is_stored_once_at_the_rate_that_is_given(tmp_path, suffix):
    path = tmp_path / ("Video \u00fc" + suffix)
    sink = record(path, [result(i, image=gray(10 * i)) for i in range(20)], fps=25)
    rate, frames = play(path)
    assert (rate, shades(frames), sink.lost) == (25, [10 * i for i in range(20)], 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("stream_fps", [5, 10, 60])
def test_a_live_video_lasts_as_long_as_the_stream_did(tmp_path, monkeypatch, suffix, stream_fps):
    monkeypatch.setattr(video, "QUEUE_FRAMES", 0)  # no bound: the test is faster than any stream
    items = [result(i, image=gray(10), seconds=i / stream_fps) for i in range(2 * stream_fps)]
    record(tmp_path / ("v" + suffix), items)
    rate, frames = play(tmp_path / ("v" + suffix))
    assert len(frames) / rate == pytest.approx(2 - 1 / stream_fps, abs=1.5 / RATE_FPS)


def test_a_camera_that_was_lost_does_not_make_the_video_stand_still_for_so_long(tmp_path):
    with VideoSink(tmp_path / "v.avi") as sink:
        sink.write(result(0, image=gray(50), seconds=0))
        sink.event(LOST)
        sink.write(result(1, image=gray(100), seconds=3600))
        sink.write(result(2, image=gray(150), seconds=3600 + 1 / RATE_FPS))
    assert shades(play(tmp_path / "v.avi")[1]) == [50] + [100] * RATE_FPS + [150]


def test_the_first_frame_gives_the_size_and_others_are_fitted_into_it(tmp_path):
    images = [gray(200, 321, 241), gray(200, 100, 240), gray(200, 640, 480)]
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
    image = gray(shade, *size)
    draw_result(image, result(label="tabby cat"))
    band = image[: min(size) // 10]
    assert band.max() > 240
    assert np.percentile(band, 25) <= 64
    assert (image[size[1] // 2 :] == shade).all()


def test_a_long_label_is_made_to_fit(tmp_path):
    image = gray(0)
    draw_result(image, result(label="a label as long as those of a thousand classes can be, with synonyms"))
    assert image[:, :310].max() > 0 == image[:, 316:].max()


@pytest.mark.parametrize("width", [120, 160, 240])
def test_why_a_result_is_unknown_is_readable_in_a_narrow_picture(width):
    item = result(label="unknown", candidate="cat", confidence=0.973)
    image = gray(0, width, 2 * width)
    draw_result(image, item._replace(result=item.result._replace(reason="distance", distance=5.1)))
    assert (image.max((1, 2)) > 60).sum() >= 14  # rows of two lines; in one line, the text is at most 6 pixels high
    assert image[:, int(0.99 * width) :].max() == image[width:].max() == 0


def test_different_results_look_different():
    pictures = set()
    unlike = (result(label="dog"), result(confidence=0.5), result(label="unknown"), result()._replace(age_ms=900.0))
    for item in (result(), result(label="unknown", candidate="cat"), *unlike):
        image = gray(0)
        draw_result(image, item)
        pictures.add(image.tobytes())
    assert len(pictures) == 6


def test_the_pictures_of_the_stream_are_left_as_they_were(tmp_path):
    image = noise(64, 48)
    record(tmp_path / "v.avi", [result(image=image)])
    assert (image == noise(64, 48)).all()


def test_letters_that_cannot_be_drawn_lose_their_accents_or_become_question_marks():
    assert ascii_text("T\u00fcr \u00e9tage \u732b") == "Tur etage ?"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_plays_while_it_grows(tmp_path, suffix):
    path = tmp_path / ("v" + suffix)
    with VideoSink(path, fps=10) as sink:
        for number in range(40):
            sink.write(result(number, image=gray(5 * number)))
        # Four may wait, one is being encoded; an H.264 encoder keeps half a second.
        assert len(play(path)[1]) >= 40 - 12
    assert len(play(path)[1]) == 40
    assert os.listdir(str(tmp_path)) == [path.name]


def test_without_a_frame_there_is_no_file(tmp_path, caplog):
    sink = record(tmp_path / "v.mp4", [])
    sink.close()
    assert os.listdir(str(tmp_path)) == []
    assert "no frames arrived, so there is no video" in caplog.text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_there_is_left_alone_and_the_recording_is_a_new_one(tmp_path, suffix, caplog):
    (tmp_path / ("v" + suffix)).write_text("mine")
    record(tmp_path / ("v" + suffix), [result()])
    record(tmp_path / ("v" + suffix), [result()])
    assert (tmp_path / ("v" + suffix)).read_text() == "mine"
    assert sorted(os.listdir(str(tmp_path))) == sorted("v" + number + suffix for number in ("", "-2", "-3"))
    assert f"v-3{suffix}, because " in caplog.text


def test_a_number_is_higher_than_those_that_are_left(tmp_path):
    for name in ("v.mp4", "v-2.mp4", "v-7.mp4", "V-8.MP4", "w-30.mp4", "v-20261128.mp4", "v-9.avi", "v-x.mp4"):
        (tmp_path / name).write_text("mine")
    assert free_name(tmp_path / "v.mp4") == str(tmp_path / "v-9.mp4")
    assert free_name(tmp_path / "u.mp4") == str(tmp_path / "u.mp4")


def test_two_that_record_at_the_same_time_record_to_two_files(tmp_path):
    with VideoSink(tmp_path / "v.avi") as first, VideoSink(tmp_path / "v.avi") as second:
        first.write(result(image=gray(50)))
        second.write(result(image=gray(200)))
    assert [shades(play(tmp_path / name)[1]) for name in ("v.avi", "v-2.avi")] == [[50], [200]]


def test_a_link_to_nowhere_is_no_free_name(tmp_path):
    (tmp_path / "v.avi").symlink_to(tmp_path / "gone")
    record(tmp_path / "v.avi", [result()])
    assert sorted(os.listdir(str(tmp_path))) == ["v-2.avi", "v.avi"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stream_of_another_size_is_another_file(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(video, "QUEUE_FRAMES", 0)  # no bound: the test is faster than any stream
    sizes = [(320, 240)] * 3 + [(640, 480)] * 2 + [(320, 240)]
    record(tmp_path / ("v" + suffix), [result(i, image=gray(50, *size)) for i, size in enumerate(sizes)])
    shown = [play(tmp_path / name)[1] for name in ("v" + suffix, "v-2" + suffix, "v-3" + suffix)]
    assert [frames[0].shape for frames in shown] == [(240, 320, 3), (480, 640, 3), (240, 320, 3)]
    assert len(os.listdir(str(tmp_path))) == 3


def test_messages_name_no_option_that_a_run_does_not_have(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "v.mp4", tmp_path / "folder.mp4", "/proc/no-such-folder/v.mp4"):
        (tmp_path / "folder.mp4").mkdir(exist_ok=True)
        with pytest.raises(OutputError) as refused:
            VideoSink(path)
        assert "--" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_slow_disk_holds_up_a_file_and_loses_no_frame(tmp_path, monkeypatch, suffix):
    released = threading.Event()
    monkeypatch.setattr(VideoSink, "_check_space", lambda sink: released.wait(60))
    path = tmp_path / ("v" + suffix)
    released.set()
    with VideoSink(path, fps=10) as sink:
        released.clear()
        threading.Timer(0.5, released.set).start()
        for number in range(20):
            sink.write(result(number, image=gray(10 * number)))
    assert (shades(play(path)[1]), sink.lost) == ([10 * number for number in range(20)], 0)


def test_frames_that_come_faster_than_they_can_be_encoded_are_counted_by_that_reason(tmp_path, monkeypatch):
    released = threading.Event()
    released.set()
    monkeypatch.setattr(VideoSink, "_check_space", lambda sink: released.wait(60))
    with VideoSink(tmp_path / "v.avi") as sink:
        released.clear()
        for number in range(20):
            sink.write(result(number))
        released.set()
    assert sink.losses == {"they come faster than they can be encoded and stored": sink.lost}
    assert 20 - video.QUEUE_FRAMES - 1 <= sink.lost < 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have a priority of their own on Linux")
def test_encoding_gives_way_to_classifying():
    found = []
    own = os.getpriority(os.PRIO_PROCESS, 0)
    worker = Worker(lambda job: found.append(os.getpriority(os.PRIO_PROCESS, 0)), 1, nice=own + 5)
    worker.offer("job", wait=True)
    worker.close(None)
    assert found == [own + 5]
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def test_a_video_of_motion_jpeg_in_an_mp4_file_is_said_to_play_in_no_browser(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(h264, "encoder", lambda: None)
    record(tmp_path / "v.mp4", [result()])
    assert "no H.264 encoder" in caplog.text
    assert "use NAME.webm for browsers" in caplog.text


def test_a_suffix_that_is_no_video_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(OutputError, match=r"ending in \.webm, \.mp4, \.avi"):
        VideoSink(tmp_path / "v.mov")
    assert os.listdir(str(tmp_path)) == []


def test_a_disk_with_little_left_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "MIN_FREE_BYTES", shutil.disk_usage(str(tmp_path)).total)
    with pytest.raises(OutputError, match=r"less than .* MB are free on its disk"):
        VideoSink(tmp_path / "v.mp4")
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_becomes_full_ends_the_video_which_can_be_played(small_disk, caplog, monkeypatch, suffix):
    folder = small_disk("4m")
    monkeypatch.setattr(video, "MIN_FREE_BYTES", 2_000_000)
    monkeypatch.setattr(h264, "encoder", lambda: None)  # H.264 would not fill this disk
    # An image that compresses badly, a different one each time.
    items = [result(i, image=np.roll(noise(640, 480), 37 * i, 1)) for i in range(60)]
    sink = record(folder / ("v" + suffix), items, fps=10)
    frames = play(folder / ("v" + suffix))[1]
    assert len(frames) + sink.lost == 60
    assert 1 < len(frames) < 60
    assert os.listdir(str(folder)) == ["v" + suffix]
    ended = [message for message in caplog.messages if "H.264" not in message]
    assert len(ended) == 1
    assert "the video ends here, later frames are lost" in ended[0]


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
