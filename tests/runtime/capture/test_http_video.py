"""Videos by HTTP, each from a real server on loopback."""

import cv2
import numpy as np
import pytest

from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.errors import CameraError, CameraLost, EndOfStream, IncompleteFilm
from tests.support.http_servers import read_on, refusal, response
from tests.support.pictures import corners, encode, quarters
from tests.support.video_files import mkv, mov, shades
from tests.support.video_files import shade as shade_of


@pytest.fixture
def video(tmp_path):
    """The bytes of a video of ten frames, each ten gray levels lighter than the last."""
    writer = cv2.VideoWriter(str(tmp_path / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 50, (32, 16))
    for number in range(10):
        writer.write(np.full((16, 32, 3), number * 10, np.uint8))
    writer.release()
    return (tmp_path / "video.avi").read_bytes()


def chunked(data, kind):
    """A chunked response, as sent by a program that does not know the length."""
    yield response(kind=kind, length=False, Transfer_Encoding="chunked")
    for at in range(0, len(data), 1000):
        part = data[at : at + 1000]
        yield b"%x\r\n%s\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


SENT = {
    "with a length": response,
    "in chunks": chunked,
    "until the connection ends": lambda data, kind: response(data, kind, length=False),
}


def read_video(camera):
    """Every frame of a video by HTTP: numbers, shades, positions in ms; and how it ended."""
    numbers, found, positions = [], [], []
    with camera:
        try:
            while True:
                frame = camera.read(5)
                if frame is not None:
                    numbers.append(frame.number)
                    found.append(int(round(frame.image.mean(), -1)))
                    positions.append(round(frame.position_s * 1e3))
        except (EndOfStream, IncompleteFilm) as end:
            return numbers, found, positions, end


TIMES_MS = [0, 40, 80, 330, 430, 470, 510, 550, 590, 630]
STEPS_MS = [40, 40, 250, 100, 40, 40, 40, 40, 40, 40]
VIDEOS = {
    "mov": lambda: mov(shades(10), STEPS_MS),
    "mov with its index last": lambda: mov(shades(10), STEPS_MS, index_first=False),
    "mkv": lambda: mkv(shades(10), TIMES_MS),
}


@pytest.mark.slow
@pytest.mark.parametrize("sent", sorted(SENT))
@pytest.mark.parametrize("name", sorted(VIDEOS))
def test_a_video_by_http_gives_every_frame_and_ends(serve, name, sent):
    data = VIDEOS[name]()
    server = serve(lambda path, headers: SENT[sent](data, "video/quicktime"))
    camera = open_camera(server.uri("/video"))
    assert camera.policy == "all"
    numbers, found, positions, end = read_video(camera)
    assert (numbers, found) == (list(range(10)), list(range(0, 100, 10)))
    # If OpenCV reports no times, those that the container lists are used.
    if name != "mkv" or not cv2.__version__.startswith("4.1."):
        assert positions == TIMES_MS
    assert isinstance(end, EndOfStream)
    assert "ended after 10 frames" in str(end)
    assert (camera.dropped, camera.losses) == (0, 0)
    assert len(server.requests) == 1


@pytest.mark.slow
def test_a_video_by_http_is_upright(serve):
    stored = np.ascontiguousarray(quarters(64, 32).transpose(1, 0, 2)[::-1])
    for index_first in (True, False):
        data = mov([encode(".jpg", stored)], [40], 6, index_first=index_first, size=(32, 64))
        with open_camera(serve(response(data, "video/quicktime")).uri("/video.mov")) as camera:
            assert corners(camera.read().image) == ["red", "green", "blue", "yellow"]


@pytest.mark.slow
def test_a_video_by_http_may_stand_still_for_longer_than_a_camera(serve):
    data = mov([shade_of(50)] * 6, [300] * 6)
    server = serve(response(data, "video/quicktime"))
    camera = open_camera(server.uri("/video.mov"), policy="latest", timeout_s=0.1, frozen_s=0.2)
    numbers, _, _, end = read_video(camera)
    assert numbers[-1] == 5
    assert isinstance(end, EndOfStream)
    assert camera.losses == 0


@pytest.mark.slow
def test_a_video_by_http_that_breaks_off_gives_what_came_and_is_an_error(serve, video):
    for data in (video, mov(shades(10), STEPS_MS)):
        whole = response(data, "video/x-msvideo")
        server = serve(whole[:-1000])
        numbers, _, _, end = read_video(open_camera(server.uri("/video.avi")))
        assert 3 < len(numbers) < 10
        assert isinstance(end, IncompleteFilm)
        assert f"ended after {len(numbers)} of 10 frames" in str(end)
        assert "the connection broke (1000 bytes are missing)" in str(end)
        assert len(server.requests) == 1


def test_a_video_by_http_that_is_cut_off_itself_is_an_error_with_both_counts(serve):
    data = mov(shades(10), STEPS_MS)
    _, _, _, end = read_video(open_camera(serve(response(data[:-2000], "video/quicktime")).uri()))
    assert isinstance(end, IncompleteFilm)
    assert "of 10 frames: the file is truncated" in str(end)


def test_a_video_whose_index_comes_last_and_that_is_too_large_is_refused(serve, monkeypatch):
    data = mov(shades(4), [40] * 4, index_first=False)
    head = response(data, "video/mp4").replace(b"Content-Length: %d" % len(data), b"Content-Length: 999999999")
    said = refusal(serve(head).uri("/video.mp4"))
    assert "has its index at its end and is larger than 256 MB" in said
    assert "-movflags +faststart" in said


@pytest.mark.slow
def test_a_stream_without_an_end_by_http_is_a_camera(serve, held):
    pictures = shades(10)

    def answer(path, headers):
        yield response(kind="video/x-matroska", length=False) + mkv(pictures, TIMES_MS, endless=True)

    camera = open_camera(serve(answer).uri("/live.mkv"))
    assert camera.policy == "latest"
    with camera, pytest.raises(CameraLost, match="delivers no more frames"):
        read_on(camera)
    with pytest.raises(CameraError, match=r"is a live source: --policy all \(drop nothing\) works with files only"):
        open_camera(serve(answer).uri("/live.mkv"), policy="all")
