"""Video files read the same with every OpenCV: upright, in their colors, at their times, and counted."""

import itertools
import json

import cv2
import numpy as np
import pytest

from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.errors import CameraError, EndOfStream, IncompleteFilm
from edgeclf_runtime.fake import FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.sinks.video import VideoSink
from edgeclf_runtime.streaming.smoothing import Smoother
from edgeclf_runtime.streaming.stream import stream
from tests.support.pictures import corners, encode, quarters
from tests.support.video_files import BT709_MP4, MATRICES, avi, mkv, mov, shade, shades

DURATIONS_MS = [40, 40, 250, 100, 40, 40, 1000, 40]
TIMES_MS = [0, 40, 80, 330, 430, 470, 510, 1510]


# Stored frames that become quarters() when the tag's rotation is applied.
STORED = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[::-1],
    7: lambda image: image.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda image: image.transpose(1, 0, 2)[:, ::-1],
}


def read_all(camera):
    """Every frame, with its image copied, and how the source ended."""
    frames = []
    with camera:
        try:
            while True:
                frame = camera.read()
                frames.append(frame._replace(image=frame.image.copy()))
        except (EndOfStream, IncompleteFilm) as end:
            return frames, end


def positions_ms(frames):
    return [round(frame.position_s * 1e3) for frame in frames]


def grays(frames):
    return [int(round(frame.image.mean(), -1)) for frame in frames]


@pytest.fixture
def video(tmp_path):
    """Write a video file's bytes; returns its path."""

    def write(data, name="video.mov"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        mov(shades(8), DURATIONS_MS),
        mov(shades(8), DURATIONS_MS, index_first=False),
        mkv(shades(8), TIMES_MS),
        mkv(shades(8), TIMES_MS, endless=True),
        mkv(shades(8), [time + 5000 for time in TIMES_MS]),
    ],
    ids=["mov", "mov with its index last", "mkv", "mkv as it is written live", "mkv that begins late"],
)
def test_each_frame_has_the_position_that_the_video_gives_it(video, data):
    frames, end = read_all(open_camera(video(data)))
    assert positions_ms(frames) == TIMES_MS
    assert grays(frames) == list(range(0, 80, 10))
    assert isinstance(end, EndOfStream)


@pytest.mark.slow
def test_the_position_is_in_each_line_of_a_video_and_of_no_camera(video):
    classifier = Classifier(FakeRunner([1, 0]), ["cat", "dog"], Preprocessing(8, 8))
    with open_camera(video(mkv(shades(8), TIMES_MS))) as camera:
        lines = [json.loads(item.to_json()) for item in stream(classifier, camera)]
    assert [line["position_s"] for line in lines] == [time / 1e3 for time in TIMES_MS]
    with open_camera("test://", width=32, height=16) as camera:
        assert "position_s" not in json.loads(next(stream(classifier, camera)).to_json())


def test_images_have_positions_at_the_rate_at_which_they_were_taken(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(shade(number))
    frames, _ = read_all(open_camera(tmp_path, fps=4))
    assert [frame.position_s for frame in frames] == [0, 0.25, 0.5]
    assert open_camera(tmp_path, fps=4).rate == 4
    frames, _ = read_all(open_camera(tmp_path))
    assert [frame.position_s for frame in frames] == [None] * 3


@pytest.mark.slow
def test_a_video_of_the_policy_latest_is_played_at_its_own_times(video):
    camera = open_camera(video(mov(shades(8), DURATIONS_MS)), policy="latest")
    frames, _ = read_all(camera)
    for frame in frames:
        assert frame.captured - frames[0].captured == pytest.approx(frame.position_s - frames[0].position_s, abs=1e-6)
    assert len(frames) + camera.dropped == 8


class Slow(FakeRunner):
    """Takes a different time for each frame, like a busy machine."""

    concurrent = True

    def __init__(self, seconds):
        super().__init__([0, 0])
        self._delays = itertools.cycle([0, seconds, seconds / 3])

    def infer(self, batch):
        import time

        time.sleep(next(self._delays))
        bright = float(batch.mean())
        return np.array([[bright % 3, 1.2]], np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["video", "images", "images at a rate"])
def test_smoothed_labels_do_not_depend_on_the_speed_of_the_machine(video, tmp_path, kind):
    if kind == "video":
        source = video(mkv(shades(30), [40 * number + 7 * (number % 3) for number in range(30)]))
    else:
        source = tmp_path
        for number in range(30):
            (tmp_path / f"{number}.jpg").write_bytes(shade(number * 53 % 256))
    found = set()
    for seconds, threads in ((0, 1), (0.02, 1), (0, 4), (0.03, 2)):
        classifier = Classifier(Slow(seconds), ["cat", "dog"], Preprocessing(8, 8), at_once=threads)
        with open_camera(source, fps=10 if kind.endswith("rate") else None) as camera:
            found.add(
                tuple(
                    (item.result.label, item.result.confidence)
                    for item in stream(classifier, camera, Smoother(0.2, 0.0))
                )
            )
    assert len(found) == 1
    assert len(set(found.pop())) > 10


@pytest.mark.parametrize("orientation", sorted(MATRICES))
@pytest.mark.parametrize("index_first", [True, False])
def test_a_video_of_a_turned_or_mirrored_phone_is_upright(video, orientation, index_first):
    stored = np.ascontiguousarray(STORED[orientation](quarters(64, 32)))
    size = stored.shape[1], stored.shape[0]
    data = mov([encode(".jpg", stored)] * 2, [40, 40], orientation, index_first=index_first, size=size)
    frames, _ = read_all(open_camera(video(data)))
    assert [frame.image.shape for frame in frames] == [(32, 64, 3)] * 2
    assert corners(frames[1].image) == ["red", "green", "blue", "yellow"]


@pytest.mark.parametrize(
    ("roll", "yaw", "orientation"),
    [
        (90, None, 8),
        (-90, None, 6),
        (270, 0, 6),
        (180, None, 3),
        (0, 180, 2),
        (180, 180, 4),
        (90, 180, 7),
        (-90, 180, 5),
    ],
)
def test_a_matroska_video_is_turned_upright_too(video, roll, yaw, orientation):
    stored = np.ascontiguousarray(STORED[orientation](quarters(64, 32)))
    size = stored.shape[1], stored.shape[0]
    frames, _ = read_all(open_camera(video(mkv([encode(".jpg", stored)] * 2, [0, 40], roll, yaw, size=size), "a.mkv")))
    assert corners(frames[1].image) == ["red", "green", "blue", "yellow"]


def test_a_flip_comes_after_the_turn(video):
    stored = np.ascontiguousarray(STORED[6](quarters(64, 32)))
    data = mov([encode(".jpg", stored)], [40], 6, size=(32, 64))
    (frame,), _ = read_all(open_camera(video(data), flip="horizontal"))
    assert corners(frame.image) == ["green", "red", "yellow", "blue"]


def test_a_video_turned_by_another_angle_is_read_as_it_is_stored_and_says_so(video, caplog):
    data = mov([encode(".jpg", quarters(64, 32))], [40], matrix=[46341, 46341, -46341, 46341], size=(64, 32))
    (frame,), _ = read_all(open_camera(video(data)))
    assert corners(frame.image) == ["red", "green", "blue", "yellow"]
    assert "rotated by an angle other than a quarter turn" in caplog.text


def test_colors_are_those_of_the_video(video, caplog):
    frames, _ = read_all(open_camera(video(BT709_MP4, "video.mp4")))
    red, green, blue, yellow = (frames[1].image[y, x].astype(int) for y in (8, 24) for x in (16, 48))
    for pixel, color in ((red, (40, 40, 200)), (green, (40, 200, 40)), (blue, (200, 40, 40)), (yellow, (60, 220, 220))):
        assert np.abs(pixel - color).max() <= 3
    old = tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 13)
    assert ("reads the BT.709 colors of" in caplog.text) == old


@pytest.mark.slow
def test_a_video_that_was_cut_off_gives_what_there_is_and_is_an_error(video, tmp_path):
    whole = {
        "mov": mov(shades(20), [40] * 20),
        "mkv": mkv(shades(20), list(range(0, 800, 40))),
        "avi": avi(tmp_path / "whole.avi", 20).read_bytes(),
    }
    said = {
        "mov": r"ended after 9 of 20 frames",
        "mkv": r"ended after \d+ frames, at 0\.\d of 0\.8 s",
        "avi": "of 20 frames",
    }
    for kind, data in whole.items():
        cut = data.index(b"00dc", data.index(b"movi")) + 3000 if kind == "avi" else len(data) // 2
        path = video(data[:cut], "cut." + kind)
        frames, end = read_all(open_camera(path))
        assert 5 <= len(frames) < 15
        assert isinstance(end, IncompleteFilm)
        assert f"the file is truncated, {len(data) - cut} of its {len(data)} bytes are missing" in str(end)
        with pytest.raises(IncompleteFilm, match=said[kind]):
            raise end


def test_a_video_without_its_index_says_that_it_is_incomplete(video):
    data = mov(shades(20), [40] * 20, index_first=False)
    with pytest.raises(CameraError, match="its index is missing, so the file is incomplete"):
        open_camera(video(data[: len(data) // 2]))


@pytest.mark.slow
def test_frames_in_the_middle_that_cannot_be_decoded_are_counted_and_passed_over(video, caplog):
    pictures = shades(10)
    pictures[4] = bytes(len(pictures[4]))
    for name, data in (("a.mov", mov(pictures, [40] * 10)), ("a.mkv", mkv(pictures, list(range(0, 400, 40))))):
        camera = open_camera(video(data, name))
        frames, end = read_all(camera)
        assert grays(frames) == [0, 10, 20, 30, 50, 60, 70, 80, 90]
        assert camera.skipped == 1
        assert f"{name} ended after 9 of 10 frames: 1 could not be decoded" in caplog.text
        assert isinstance(end, EndOfStream)


def test_a_video_of_which_much_cannot_be_decoded_is_an_error(video):
    pictures = [bytes(100) if 20 < number < 60 else picture for number, picture in enumerate(shades(100))]
    camera = open_camera(video(mov(pictures, [40] * 100)))
    frames, end = read_all(camera)
    assert (len(frames), camera.skipped) == (61, 39)
    assert isinstance(end, IncompleteFilm)
    assert "ended after 61 of 100 frames: the others are missing or could not be decoded" in str(end)


def test_damaged_videos_say_nothing_on_stderr(video, capfd):
    data = bytearray(BT709_MP4)
    at = data.index(b"mdat")
    data[at + 20 : at + 100] = bytes(80)
    with open_camera(video(bytes(data), "video.mp4")) as camera:
        read_all(camera)
    assert capfd.readouterr().err == ""


def test_a_video_of_one_frame_is_a_video(video):
    frames, end = read_all(open_camera(video(mov(shades(1), [40]))))
    assert positions_ms(frames) == [0]
    assert str(end).endswith("ended after 1 frames")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (mov(shades(2), [40, 40], handler=b"soun"), "it contains no video, only sound or data"),
    ],
    ids=["empty", "sound"],
)
def test_what_has_nothing_to_play_says_why(video, data, said):
    with pytest.raises(CameraError, match="OpenCV cannot read it; expected a video or an image: " + said):
        open_camera(video(data))


def test_an_index_without_frames_says_so(video):
    with pytest.raises(CameraError, match="its index lists no frames, so the file is incomplete"), open_camera(
        video(mov([], []))
    ) as camera:
        camera.read()


@pytest.mark.slow
@pytest.mark.parametrize("fps", [25, 30000 / 1001])
def test_an_annotated_video_has_each_frame_of_a_video_once(video, tmp_path, fps):
    times_ms = [round(number * 1000 / fps) for number in range(20)]
    assert played(video(mkv(shades(20), times_ms), "a.mkv"), tmp_path / "v.avi") == list(range(0, 200, 10))


def test_an_annotated_video_keeps_the_times_of_a_video_whose_rate_varies(video, tmp_path):
    rate = 25  # of the shortest steps
    found = played(video(mov(shades(8), DURATIONS_MS)), tmp_path / "v.avi")
    assert len(found) == round(TIMES_MS[-1] * rate / 1000) + 1
    assert [found[int(time * rate / 1000 + 0.5)] for time in TIMES_MS] == list(range(0, 80, 10))


def played(source, path):
    """The gray levels of a video file's annotated video."""
    classifier = Classifier(FakeRunner([1, 0]), ["cat", "dog"], Preprocessing(8, 8))
    with open_camera(source) as camera, VideoSink(path, camera.rate) as sink:
        for item in stream(classifier, camera):
            large = np.full((120, 160, 3), int(round(item.frame.image.mean(), -1)), np.uint8)
            sink.write(item._replace(frame=item.frame._replace(image=large)))
    capture, found = cv2.VideoCapture(str(path)), []
    ok, image = capture.read()
    while ok:
        found.append(int(round(image[60:].mean(), -1)))
        ok, image = capture.read()
    return found
