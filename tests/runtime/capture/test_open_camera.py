import os
import re
import time

import cv2
import numpy as np
import pytest

from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.errors import CameraError, EndOfStream, OptionError
from edgeclf_runtime.images.read import image_paths
from tests.support.pictures import encode, quarters


def frames(camera):
    """Every frame until the source ends."""
    found = []
    with camera:
        try:
            while True:
                found.append(camera.read())
        except EndOfStream:
            return found


def shades(found):
    return [int(frame.image.mean().round()) for frame in found]


@pytest.fixture
def video(tmp_path):
    """Ten frames, each ten gray levels lighter than the last, at 50 frames per second."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 50, (32, 16))
    for number in range(10):
        writer.write(np.full((16, 32, 3), number * 10, np.uint8))
    writer.release()
    return path


def test_a_folder_gives_its_images_in_the_order_of_their_names(tmp_path, caplog):
    for name, shade in (("b.png", 20), ("a.PNG", 10), ("c d \u00fc.png", 30)):
        (tmp_path / name).write_bytes(encode(".png", np.full((8, 8, 3), shade, np.uint8)))
    (tmp_path / "notes.txt").write_text("no image, and not called one")
    (tmp_path / "wrong.jpg").write_text("called an image")
    (tmp_path / "below").mkdir()
    camera = open_camera(tmp_path)
    found = frames(camera)
    assert [frame.name for frame in found] == ["a.PNG", "b.png", "c d \u00fc.png"]
    assert shades(found) == [10, 20, 30]
    assert [frame.number for frame in found] == [0, 1, 2]
    assert camera.skipped == 1
    assert "wrong.jpg: not an image" in caplog.text


def test_numbers_in_names_are_ordered_as_numbers(tmp_path):
    for name in ("frame10.png", "frame2.png", "frame1.png", "10.png", "9.png", "a.png", "frame2b.png", "frame02.png"):
        (tmp_path / name).write_bytes(encode(".png", quarters()))
    wanted = ["9.png", "10.png", "a.png", "frame1.png", "frame02.png", "frame2.png", "frame2b.png", "frame10.png"]
    assert [frame.name for frame in frames(open_camera(tmp_path))] == wanted
    assert [frame.name for frame in frames(open_camera(tmp_path / "*.png"))] == wanted


def test_numbers_in_the_names_of_folders_are_ordered_as_numbers_too(tmp_path):
    for folder in ("day 10", "day 9"):
        (tmp_path / folder).mkdir()
        for name in ("2.png", "11.png"):
            (tmp_path / folder / name).write_bytes(encode(".png", quarters()))
    found = [os.path.relpath(path, str(tmp_path)) for path in image_paths(tmp_path / "**" / "*.png")]
    assert found == ["day 9/2.png", "day 9/11.png", "day 10/2.png", "day 10/11.png"]


def test_a_folder_without_any_image_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(CameraError, match="holds no image"):
        open_camera(tmp_path)


def test_images_that_are_all_damaged_are_an_error_and_not_an_end(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(CameraError, match="none of 1 images could be read") as caught:
        frames(open_camera(tmp_path))
    assert not isinstance(caught.value, EndOfStream)


def test_one_image_is_a_source(tmp_path):
    (tmp_path / "one.jpg").write_bytes(encode(".jpg", quarters()))
    assert [frame.name for frame in frames(open_camera(tmp_path / "one.jpg"))] == ["one.jpg"]


def test_a_folder_may_be_called_like_a_cameras_number(tmp_path, monkeypatch):
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "a.png").write_bytes(encode(".png", quarters()))
    monkeypatch.chdir(tmp_path)
    assert len(frames(open_camera("3"))) == 1


def test_a_video_gives_every_frame(video):
    found = frames(open_camera(video))
    assert np.allclose(shades(found), range(0, 100, 10), atol=2)
    assert [frame.number for frame in found] == list(range(10))


def test_a_video_may_have_any_name(video):
    path = video.parent / "Video 1 \u00fc\u00df.data"
    video.rename(path)
    assert len(frames(open_camera(path))) == 10


@pytest.mark.slow
def test_a_video_knows_its_rate_and_other_sources_have_none(video):
    assert open_camera(video).rate == 50
    assert open_camera("test://").rate is None


@pytest.mark.slow
def test_a_video_of_the_policy_latest_is_played_at_its_own_rate(video):
    found = frames(open_camera(video, policy="latest"))
    for frame in found:
        assert frame.captured - found[0].captured >= (frame.number - found[0].number) / 50 - 1e-6


@pytest.mark.slow
def test_a_video_of_the_policy_latest_drops_what_is_not_fetched(video):
    camera = open_camera(video, policy="latest")
    found = [camera.read()]
    # Until the whole video was played; the last frame is kept.
    time.sleep(0.5)
    found += frames(camera)
    assert found[-1].number == 9
    assert len(found) + camera.dropped == 10
    assert camera.dropped > 0


@pytest.mark.slow
@pytest.mark.parametrize(("flip", "corner"), [(None, 200), ("horizontal", 0), ("vertical", 0), ("180", 0)])
def test_a_picture_is_flipped_as_asked(tmp_path, flip, corner):
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :16] = 200
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 50, (32, 16))
    writer.write(image)
    writer.release()
    (frame,) = frames(open_camera(tmp_path / "v.avi", flip=flip))
    assert abs(int(frame.image[4, 8, 0]) - corner) < 20
    ys, xs = {None: (4, 8), "horizontal": (4, 24), "vertical": (12, 8), "180": (12, 24)}[flip]
    assert abs(int(frame.image[ys, xs, 0]) - 200) < 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "head", [b"a text\n" * 500, b"", b"\0\0\0\x18ftypmp42" + bytes(2000)], ids=["text", "empty", "broken mp4"]
)
@pytest.mark.parametrize("name", ["file.txt", "file.mp4", "file.json", "frame_001.avi"])
def test_what_is_no_video_is_one_error_and_nothing_else_on_stderr(tmp_path, capfd, name, head):
    (tmp_path / name).write_bytes(head)
    with pytest.raises(CameraError, match="OpenCV cannot read it; expected a video or an image"):
        open_camera(tmp_path / name)
    assert capfd.readouterr().err == ""


def test_stderr_speaks_again_after_a_video_was_opened(video, capfd):
    open_camera(video).close()
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_a_video_without_a_frame_is_damaged(video):
    data = video.read_bytes()
    video.write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(CameraError) as caught, open_camera(video) as camera:
        camera.read()
    assert not isinstance(caught.value, EndOfStream)


def test_a_pattern_gives_the_images_that_match(tmp_path):
    for name in ("a1.png", "a2.png", "b1.png"):
        (tmp_path / name).write_bytes(encode(".png", quarters()))
    assert [frame.name for frame in frames(open_camera(tmp_path / "a*.png"))] == ["a1.png", "a2.png"]
    with pytest.raises(CameraError, match="holds no image"):
        open_camera(tmp_path / "c*.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "a:b.avi",
        "C:\\video.avi",
        "2026-11-28T10:15:00.avi",
        "rtsp:video.avi",
        "user:word@host.avi",
        "video%03d.avi",
        "video[1].avi",
        "what?*.avi",
        "-video.avi",
        " video .avi",
        "Fu\u0308r \u732b.avi",
        "two\nlines.avi",
        "file:video.avi",
        "12",
    ],
)
def test_a_video_of_exactly_this_name_is_that_video(video, monkeypatch, name):
    video.rename(video.parent / name)
    (video.parent / "video1.avi").write_bytes(b"another")
    monkeypatch.chdir(video.parent)
    assert len(frames(open_camera(name))) == 10
    assert len(frames(open_camera((video.parent / name).as_uri()))) == 10


@pytest.mark.parametrize("name", ["a[1].png", "a?.png", "*.png", "a:b.png", "%03d.png", "-a.png", "two\nlines.png"])
def test_an_image_of_exactly_this_name_is_that_image_and_no_pattern(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(encode(".png", quarters()))
    (tmp_path / "a1.png").write_bytes(encode(".png", quarters()))
    monkeypatch.chdir(tmp_path)
    assert [frame.name for frame in frames(open_camera(name))] == [name]
    assert [frame.name for frame in frames(open_camera((tmp_path / name).as_uri()))] == [name]


def test_a_folder_may_be_called_like_a_pattern(tmp_path):
    folder = tmp_path / "day [1]"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode(".png", quarters()))
    for source in (folder, folder / "*.png", folder.as_uri()):
        assert [frame.name for frame in frames(open_camera(source))] == ["a.png"]


def test_a_file_of_another_machine_is_refused():
    with pytest.raises(CameraError, match="is not a file on this machine; file:///FOLDER/FILE was expected"):
        open_camera("file://server/video.avi")


@pytest.mark.parametrize("source", ["nowhere", "csi:/0", "/dev/null", "\u00b2", "ftp://host/video.mp4"])
def test_what_is_no_source_lists_the_kinds_there_are(source):
    with pytest.raises(CameraError, match="expected a video file, an image file, a folder or a pattern of images"):
        open_camera(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("v4l2://front", "is not a camera; use /dev/video0 or v4l2://0"),
        ("csi://left", "has no sensor number; expected csi://NUMBER"),
        ("rtsp:///stream", "expected rtsp://HOST:PORT/PATH"),
        ("http://host:port/x", "expected http://HOST:PORT/PATH"),
        ("test://?fault=fire", "NAME one of hang, die, freeze, lose, resize"),
        ("test://?foult=die", "is not a generated source"),
    ],
)
def test_a_wrong_address_tells_the_right_form(source, message):
    with pytest.raises(CameraError, match=re.escape(message)):
        open_camera(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": "upside-down"}, "one of 180, horizontal, vertical"),
        ({"policy": "newest"}, "one of auto, latest, all"),
        ({"policy": "all"}, "works with files only"),
        ({"timeout_s": 0}, "expected positive seconds"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        open_camera("test://", **options)


@pytest.mark.slow
def test_a_camera_that_is_not_there_lists_those_that_are():
    for source in ("/dev/video97", "v4l2://97", "97"):
        with pytest.raises(
            CameraError, match=r"is not available: check whether it is connected\. Cameras on this machine: "
        ):
            open_camera(source)


def test_a_password_is_told_to_nobody():
    with pytest.raises(CameraError) as caught:
        open_camera("rtsp://user:secret@127.0.0.1:1/stream")
    assert "rtsp://127.0.0.1:1/stream" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_frame_knows_when_it_was_captured(video):
    before, before_monotonic = time.time(), time.monotonic()
    frame = open_camera(video).read()
    assert before - 0.1 <= frame.captured_at <= time.time() + 0.1
    assert before_monotonic <= frame.captured <= time.monotonic()
    assert 0 <= frame.age_ms <= (time.monotonic() - before_monotonic) * 1e3
