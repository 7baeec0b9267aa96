import http.server
import logging
import os
import threading
import time

import cv2
import numpy as np
import pytest

from edgeclf_runtime.camera import Camera, Frame, LatestCamera, VideoCamera, open_camera
from edgeclf_runtime.errors import CameraError, EndOfStream

from .pictures import encode, quarters

WAIT_S = 30


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
    """Ten frames, each ten greys lighter than the last, at 50 frames a second."""
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
    path = video.parent / "Film 1 \u00fc\u00df.data"
    video.rename(path)
    assert len(frames(open_camera(path))) == 10


def test_a_video_in_real_time_is_played_at_its_own_rate(video):
    found = frames(VideoCamera(str(video), "video", file=True, realtime=True))
    assert len(found) == 10
    for frame in found:
        assert frame.captured - found[0].captured >= frame.number / 50 - 1e-6


def test_a_video_in_real_time_drops_what_is_not_fetched(video):
    camera = open_camera(video, realtime=True)
    found = frames(camera)
    assert found[-1].number == 9
    assert len(found) + camera.dropped == 10


@pytest.mark.parametrize(
    "head", [b"a text\n" * 500, b"", b"\0\0\0\x18ftypmp42" + bytes(2000)], ids=["text", "empty", "broken mp4"]
)
@pytest.mark.parametrize("name", ["file.txt", "file.mp4", "file.json", "frame_001.avi"])
def test_what_is_no_video_is_one_error_and_nothing_else_on_stderr(tmp_path, capfd, name, head):
    (tmp_path / name).write_bytes(head)
    with pytest.raises(CameraError, match="OpenCV reads no video in it; a video or an image was expected"):
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


@pytest.mark.parametrize("source", ["nowhere", "csi:/0", "/dev/null", "\u00b2"])
def test_what_is_no_source_lists_the_kinds_there_are(source):
    with pytest.raises(CameraError, match="a source is a video file, an image file, a folder of images"):
        open_camera(source)


def test_a_camera_that_is_not_there_lists_those_that_are():
    for source in ("/dev/video97", "v4l2://97", "97"):
        with pytest.raises(CameraError, match=r"is it there, and free\? Cameras on this machine: "):
            open_camera(source)
    with pytest.raises(CameraError, match="names no camera; a camera is /dev/video0 or v4l2://0"):
        open_camera("v4l2://front")


def test_a_frame_knows_when_it_was_captured(video):
    before, before_monotonic = time.time(), time.monotonic()
    frame = open_camera(video).read()
    assert before - 0.1 <= frame.captured_at <= time.time() + 0.1
    assert before_monotonic <= frame.captured <= time.monotonic()
    assert 0 <= frame.age_ms <= (time.monotonic() - before_monotonic) * 1e3


class Source(Camera):
    """Frames 0 to 9, each only when it is let through; what comes after them is ``last``."""

    def __init__(self, last=None):
        self.asked = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self.last = last or EndOfStream("the end")
        self.closed = threading.Event()
        self.number = -1

    def read(self):
        self.asked.release()
        self.allowed.acquire()
        self.number += 1
        if self.number == 10:
            raise self.last
        return Frame(None, self.number, 0.0, 0.0, 0.0, "")

    def let(self, count):
        """Let ``count`` frames through; when it returns they were taken, and the next is asked for."""
        for _ in range(count):
            self.allowed.release()
        for _ in range(count):
            assert self.asked.acquire(timeout=WAIT_S)

    def close(self):
        self.closed.set()


@pytest.fixture
def source():
    return Source()


def live(source):
    camera = LatestCamera(source)
    assert source.asked.acquire(timeout=WAIT_S)
    return camera


def test_a_live_source_hands_out_its_newest_frame_and_counts_the_others(source):
    camera = live(source)
    source.let(1)
    assert camera.read().number == 0
    source.let(6)
    assert (camera.read().number, camera.dropped) == (6, 5)


def test_the_last_frame_is_handed_out_before_the_end(source):
    camera = live(source)
    source.let(10)
    source.allowed.release()
    assert source.closed.wait(WAIT_S)
    assert camera.read().number == 9
    for _ in range(2):
        with pytest.raises(EndOfStream, match="the end"):
            camera.read()


def test_a_drivers_own_exception_reaches_the_reader():
    source = Source(ZeroDivisionError("in the driver"))
    camera = live(source)
    source.let(10)
    source.allowed.release()
    assert camera.read().number == 9
    with pytest.raises(CameraError, match="capture failed: ZeroDivisionError"):
        camera.read()


def test_a_camera_that_hangs_is_left_behind_and_let_go_of_when_it_returns(source, monkeypatch):
    monkeypatch.setattr("edgeclf_runtime.camera.CLOSE_TIMEOUT_S", 0.01)
    camera = live(source)
    camera.close()
    assert not source.closed.is_set()
    with pytest.raises(CameraError, match="capture was stopped"):
        camera.read()
    source.allowed.release()
    assert source.closed.wait(WAIT_S)


class Motion(http.server.BaseHTTPRequestHandler):
    """Twenty JPEG frames, then the connection ends."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(20):
            jpeg = encode(".jpg", np.full((48, 64, 3), number * 10, np.uint8))
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode("ascii") + jpeg + b"\r\n")

    def log_message(self, *arguments):
        logging.debug(*arguments)


def test_a_network_camera_is_read_until_it_is_lost():
    server = http.server.HTTPServer(("127.0.0.1", 0), Motion)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    camera = open_camera(f"http://127.0.0.1:{server.server_port}/stream")
    found = []
    with pytest.raises(CameraError, match="delivers no frame any more: see whether the camera is connected"):
        read_all(camera, found)
    assert found == sorted(set(found))
    assert len(found) + camera.dropped == found[-1] + 1
    server.shutdown()
    server.server_close()


def read_all(camera, found):
    with camera:
        while True:
            found.append(camera.read().number)
