"""Cameras by HTTP, each against a real server on loopback."""

import struct
import subprocess
import threading

import cv2
import numpy as np
import pytest

from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.errors import CameraError, CameraLost, EndOfStream, IncompleteFilm
from tests.support.http_servers import HttpServer, basic, digest_is_right, part, response, stream_head
from tests.support.pictures import corners, encode, quarters
from tests.support.video_files import mkv, mov, shades
from tests.support.video_files import shade as shade_of

PLAYLISTS = {
    "hls behind white space": ("video/mp4", b"\n" * 30 + b"#EXTM3U\n#EXT-X-TARGETDURATION:1\nhttp://HOST/secret.ts\n"),
    "hls": ("application/vnd.apple.mpegurl", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://HOST/secret.ts\n"),
    "hls called a video": ("video/mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://HOST/secret.ts\n\0"),
    "concat": ("application/octet-stream", b"ffconcat version 1.0\nfile http://HOST/secret.ts\n"),
    "dash": ("application/dash+xml", b"<?xml version='1.0'?><MPD><BaseURL>http://HOST/secret.mp4</BaseURL></MPD>"),
    "dash without a head": ("video/mp4", b" <MPD><BaseURL>http://HOST/secret.mp4</BaseURL></MPD>"),
    "sdp": ("application/sdp", b"v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
    "pls": ("audio/x-scpls", b"[playlist]\nFile1=http://HOST/secret.ts\n"),
    "asx": ("video/x-ms-asf", b"<ASX><ENTRY><REF HREF='http://HOST/secret.asf'/></ENTRY></ASX>"),
}


def jpeg(shade, width=32, height=16):
    return encode(".jpg", np.full((height, width, 3), shade, np.uint8))


def shade(frame):
    return int(frame.image.mean().round())


@pytest.fixture
def serve():
    """Start a server: serve(answer) where answer(path, headers) returns a response, or is one."""
    servers = []

    def start(answer):
        servers.append(HttpServer(answer if callable(answer) else lambda path, headers: answer))
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def held():
    """An event that a stream waits for until the test ends."""
    event = threading.Event()
    yield event
    event.set()


def read_on(camera):
    """Read until an error is raised."""
    while True:
        camera.read()


def refusal(uri, **options):
    with pytest.raises(CameraError) as caught, open_camera(uri, **options) as camera:
        camera.read()
    return str(caught.value)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_shown_and_not_followed(serve, status):
    target = serve(response(jpeg(50)))
    location = target.uri("/inner", user="admin:hidden@")
    server = serve(response(status=status, Location=location))
    said = refusal(server.uri())
    assert f"redirects to {target.uri('/inner')}, which is not followed; use that address" in said
    assert "hidden" not in said
    assert target.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PLAYLISTS))
def test_a_playlist_is_refused_and_nothing_in_it_is_read(serve, name):
    target = serve(response(jpeg(50)))
    kind, body = PLAYLISTS[name]
    server = serve(response(body.replace(b"HOST", f"127.0.0.1:{target.port}".encode()), kind))
    assert "which is not followed; use the address of the stream itself" in refusal(server.uri("/live"))
    assert target.requests == []
    assert len(server.requests) == 1


@pytest.mark.slow
def test_a_stream_gives_its_pictures(serve, held):
    def answer(path, headers):
        yield stream_head() + part(jpeg(10))
        yield part(jpeg(40))
        held.wait()

    server = serve(answer)
    with open_camera(server.uri("/a b?x=1&y=2")) as camera:
        while shade(camera.read()) < 35:
            pass
    # The first connection only checks whether the port answers.
    assert [path for path, _ in server.requests] == ["/a%20b?x=1&y=2"]


@pytest.mark.slow
@pytest.mark.parametrize("length", [True, False], ids=["with lengths", "without lengths"])
@pytest.mark.parametrize("told", ["frame", '"frame"', "--frame", '"--frame"'])
def test_a_stream_is_read_as_cameras_write_it(serve, held, told, length):
    def answer(path, headers):
        yield stream_head(told) + b"\r\n" + part(jpeg(10), length=length)
        held.wait()

    # The only image is delivered right away, not once the next one begins.
    with open_camera(serve(answer).uri()) as camera:
        assert abs(shade(camera.read()) - 10) < 3


@pytest.mark.slow
def test_a_picture_with_a_thumbnail_is_not_cut_off_at_the_thumbnails_end(serve, held):
    thumbnail, whole = jpeg(200), jpeg(10)
    data = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + whole[2:]
    cut = data.index(thumbnail) + len(thumbnail)

    def answer(path, headers):
        sent = part(data, length=False)
        at = sent.index(data) + cut
        yield stream_head() + sent[:at]
        yield sent[at:]
        held.wait()

    with open_camera(serve(answer).uri()) as camera:
        assert abs(shade(camera.read()) - 10) < 3


@pytest.mark.slow
def test_the_newest_picture_is_handed_out_and_the_older_ones_are_counted(serve, held):
    read = threading.Event()

    def answer(path, headers):
        yield stream_head() + part(jpeg(0))
        read.wait()
        yield b"".join(part(jpeg(10)) for _ in range(200)) + part(jpeg(90))
        held.wait()

    with open_camera(serve(answer).uri()) as camera:
        camera.read()
        read.set()
        frame = camera.read()
        while shade(frame) < 80:
            frame = camera.read()
        assert frame.number == 201
        assert camera.dropped > 100


def test_a_damaged_picture_is_passed_over(serve, held):
    def answer(path, headers):
        yield stream_head() + part(jpeg(10))
        yield part(jpeg(40)[:-20]) + part(b"no picture") + part(b"")
        yield part(jpeg(90))
        held.wait()

    with open_camera(serve(answer).uri()) as camera:
        while shade(camera.read()) < 80:
            pass
        assert camera.losses == 0


@pytest.mark.slow
def test_a_stream_of_nothing_but_damaged_pictures_is_an_error(serve):
    server = serve(lambda path, headers: [stream_head() + part(b"no picture") * 50])
    assert "not an image" in refusal(server.uri())


@pytest.mark.slow
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(serve):
    large = bytearray(jpeg(10))
    at = large.index(b"\xff\xc0") + 5
    large[at : at + 4] = struct.pack(">HH", 9000, 12000)
    for body in (stream_head() + part(bytes(large)), response(bytes(large))):
        assert "12000 x 9000 is 108.0 megapixels, more than the 50 allowed" in refusal(serve(body).uri())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"x" * 10000, "a line of more than"),
        (b"x\r\n" * 40000, "bytes without a boundary"),
        (b"--frame\r\n" + b"a: b\r\n" * 5000, "bytes of headers before an image"),
        (b"--frame\r\nContent-Length: 9999999999\r\n\r\n", "an image of more than 64 MB"),
        (b"", "it closed the connection"),
    ],
    ids=["line", "no boundary", "headers", "length", "nothing"],
)
def test_a_stream_that_is_none_is_an_error_of_bounded_memory(serve, body, message):
    assert message in refusal(serve(stream_head() + body).uri())


def test_a_stream_that_ends_is_a_lost_camera(serve):
    camera = open_camera(serve(lambda path, headers: [stream_head() + part(jpeg(10))]).uri())
    with camera, pytest.raises(CameraLost, match="delivers no more frames: it closed the connection"):
        read_on(camera)


@pytest.mark.slow
def test_an_image_is_asked_for_again_and_again(serve):
    shades = iter(range(10, 250, 10))
    server = serve(lambda path, headers: response(jpeg(next(shades))))
    with open_camera(server.uri("/snapshot.jpg"), fps=50) as camera:
        found = [shade(camera.read()) for _ in range(3)]
    assert found == sorted(found)
    assert found[0] < found[-1]
    assert len(server.requests) >= 3


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_a_digest_is_answered_and_the_password_stays_here(serve, algorithm):
    challenge = f'Digest realm="a, b", nonce="n=1", algorithm={algorithm}, qop="auth,auth-int", opaque="o"'
    granted = []

    def answer(path, headers):
        granted.append(
            digest_is_right(headers["authorization"], "us er", "p@ss:w", algorithm)
            if "authorization" in headers
            else None
        )
        return response(jpeg(10)) if granted[-1] else response(status="401 No", WWW_Authenticate=challenge)

    server = serve(answer)
    with open_camera(server.uri("/snap?a=1", user="us%20er:p%40ss%3Aw@"), fps=50) as camera:
        camera.read()
        camera.read()
    assert granted[:3] == [None, True, True]
    assert not any("p@ss" in str(headers) for _, headers in server.requests)


@pytest.mark.slow
def test_basic_is_answered_only_where_it_is_asked_for(serve):
    def answer(path, headers):
        if headers.get("authorization") == basic("user", "secret"):
            return response(jpeg(10))
        return response(b"login", "text/html", "401 No", WWW_Authenticate='Basic realm="x"')

    server = serve(answer)
    with open_camera(server.uri(user="user:secret@")) as camera:
        camera.read()
    assert "authorization" not in server.requests[0][1]
    said = refusal(server.uri(user="user:wrong@"))
    assert "rejects the user name and password (401)" in said
    assert "wrong" not in said
    assert "requires a user name and a password (401)" in refusal(server.uri())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            response(status="404 Not \x1b[31mFound"),
            "answers 404 Not ?[31mFound; expected the address of an MJPEG stream",
        ),
        (response(b"<html>", "text/html"), "is a web page, not an image"),
        (b"garbage\r\n\r\n", "cannot be read by HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n", "cannot be read by HTTP"),
        (response(b"no video" * 100, "video/mp4"), "cannot be opened"),
    ],
    ids=["status", "page", "garbage", "headers", "no video"],
)
def test_another_answer_is_an_error_that_says_what_came(serve, answer, message):
    assert message in refusal(serve(answer).uri())


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


@pytest.mark.slow
def test_an_image_that_stays_the_same_is_no_lost_camera(serve, monkeypatch):
    monkeypatch.setattr("edgeclf_runtime.capture.reconnect.FROZEN_S", 0.1)
    server = serve(response(jpeg(10)))
    with open_camera(server.uri("/snapshot.jpg"), fps=20) as camera:
        for _ in range(10):
            camera.read()
        assert camera.losses == 0
    with open_camera(server.uri("/snapshot.jpg"), fps=20, frozen_s=0.1) as camera, pytest.raises(
        CameraLost, match="has sent the same image"
    ):
        read_on(camera)


@pytest.mark.slow
def test_an_image_that_the_server_does_not_call_one_is_asked_for_again_too(serve):
    server = serve(response(jpeg(10), "application/octet-stream"))
    with open_camera(server.uri("/snapshot"), fps=20) as camera:
        assert [abs(shade(camera.read()) - 10) < 3 for _ in range(3)] == [True] * 3
        assert camera.losses == 0


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["404 Not Found", "503 Busy", "page", "hangs up"])
def test_a_server_of_images_that_fails_now_and_then_is_no_lost_camera(serve, failure):
    count = iter(range(1000))

    def answer(path, headers):
        if next(count) % 3 != 1:
            return response(jpeg(10))
        if failure == "hangs up":
            return b""
        return response(b"<html>", "text/html") if failure == "page" else response(status=failure)

    server = serve(answer)
    with open_camera(server.uri("/snapshot.jpg"), fps=20) as camera:
        for _ in range(6):
            camera.read()
        assert camera.losses == 0
    assert len(server.requests) >= 8


@pytest.mark.slow
def test_a_server_of_images_that_goes_on_failing_is_a_lost_camera_and_says_why(serve, monkeypatch):
    monkeypatch.setattr("edgeclf_runtime.capture.reconnect.FIRST_PAUSE_S", 0.1)
    works = threading.Event()
    works.set()
    server = serve(lambda path, headers: response(jpeg(10)) if works.is_set() else response(status="503 Busy"))
    with open_camera(server.uri("/snapshot.jpg"), fps=10, timeout_s=30) as camera:
        camera.read()
        works.clear()
        with pytest.raises(CameraLost, match="answers 503 Busy"):
            read_on(camera)
        works.set()
        while camera.read(0.1) is None:
            pass


@pytest.fixture
def certificate(tmp_path):
    """A camera's own certificate for 127.0.0.1, as (certificate, key)."""
    paths = str(tmp_path / "camera.crt"), str(tmp_path / "camera.key")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=camera -addext subjectAltName=IP:127.0.0.1"
    subprocess.check_call([*command.split(), "-out", paths[0], "-keyout", paths[1]], stderr=subprocess.DEVNULL)
    return paths


@pytest.mark.slow
def test_a_certificate_is_verified(serve, certificate, monkeypatch):
    server = serve(response(jpeg(10)))
    server.encrypt(*certificate)
    said = refusal(server.uri().replace("http:", "https:"))
    assert "has a certificate that this machine does not trust" in said
    assert "SSL_CERT_FILE" in said
    assert server.requests == []
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    with open_camera(server.uri().replace("http:", "https:"), fps=50) as camera:
        assert [abs(shade(camera.read()) - 10) < 3 for _ in range(2)] == [True, True]
