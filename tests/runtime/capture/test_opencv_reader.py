"""Video files that refer to others: FFmpeg may read only the file it was given."""

import math

import cv2
import numpy as np
import pytest

from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.capture.readers.opencv_reader import OpenCVReader, playlist_name
from edgeclf_runtime.capture.source import Source
from edgeclf_runtime.errors import CameraError
from tests.support.http_servers import HttpServer, response

PAD = b"\0" * 200  # bytes that no text file has
HLS = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nTARGET\n#EXT-X-ENDLIST\n"
PLAYLISTS = {
    "hls": HLS,
    "hls that is no text": HLS + PAD,
    "hls behind a byte order mark": b"\xef\xbb\xbf" + HLS + PAD,
    "concat": b"ffconcat version 1.0\nfile 'TARGET'\n" + PAD,
    "dash": b"<?xml version='1.0'?><MPD><Period><AdaptationSet><Representation><BaseURL>TARGET</BaseURL>" + PAD,
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9999 RTP/AVP 26\n" + PAD,
}


@pytest.fixture
def secret(tmp_path):
    """A video file that must not be read."""
    path = tmp_path / "secret.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 50, (32, 16))
    for _ in range(5):
        writer.write(np.full((16, 32, 3), 77, np.uint8))
    writer.release()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PLAYLISTS))
def test_a_playlist_called_a_video_reads_no_other_file_and_no_address(tmp_path, secret, name):
    with HttpServer(lambda path, headers: response(secret.read_bytes(), "video/x-msvideo")) as server:
        for suffix, target in ((".avi", secret.name), (".m3u8", server.uri("/secret.avi"))):
            video = tmp_path / ("video" + suffix)
            video.write_bytes(PLAYLISTS[name].replace(b"TARGET", target.encode()))
            with pytest.raises(CameraError, match="expected a video or an image"), open_camera(video) as camera:
                camera.read()
        assert server.requests == []


def test_the_formats_that_ffmpeg_may_read_hold_no_playlist(tmp_path, secret):
    # After our check of the first bytes, FFmpeg's own list of formats must refuse it.
    video = tmp_path / "video.avi"
    video.write_bytes(b"\n#EXT" + PAD + HLS)
    assert playlist_name(video.read_bytes()) is None
    with pytest.raises(CameraError, match="OpenCV cannot read it"):
        open_camera(video)


@pytest.mark.parametrize(
    "name", ["a:b.avi", "concat:secret.avi", "http:video.avi", "frame_001.avi", "video%03d.avi", "-i.avi"]
)
def test_a_video_may_be_called_like_a_protocol(tmp_path, secret, monkeypatch, name):
    secret.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with open_camera(name) as camera:
        assert abs(int(camera.read().image.mean()) - 77) < 3


@pytest.mark.slow
def test_the_users_own_options_of_ffmpeg_do_not_open_playlists(tmp_path, secret, monkeypatch):
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file,http|format_whitelist;hls,avi")
    with open_camera(secret) as camera:
        camera.read()


def test_an_rtsp_camera_that_does_not_open_tells_its_password_to_nobody(capfd):
    with HttpServer(lambda path, headers: b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n") as server:
        with pytest.raises(CameraError) as caught:
            open_camera(f"rtsp://user:secret@127.0.0.1:{server.port}/x")
        assert server.requests
    assert "secret" not in str(caught.value) + "".join(capfd.readouterr())


class Grabbing:
    """OpenCV's capture of a camera that delivers ``left`` frames more."""

    def __init__(self, left):
        self.left = left

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return True

    def get(self, key):
        return 8.0

    def grab(self):
        self.left -= 1
        return self.left >= 0


def test_a_resting_reader_fetches_frames_without_converting_them():
    reader = OpenCVReader(Source("device", "/dev/video0", "camera"), Grabbing(100))
    wanted = iter([True] * 7 + [False])
    reader.rest(math.inf, lambda: next(wanted))
    assert (reader.rested, reader._capture.left) == (7, 93)
    reader.rest(0.0, lambda: True)
    assert reader.rested == 7
    with pytest.raises(CameraError, match="delivers no frames"):
        reader.rest(math.inf, lambda: True)
