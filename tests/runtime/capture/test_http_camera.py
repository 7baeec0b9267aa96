"""Cameras by HTTP, each against a real server on loopback."""

import struct
import subprocess
import threading
import time

import numpy as np
import pytest

from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.errors import CameraLost
from tests.support.http_servers import basic, digest_is_right, part, read_on, refusal, response, stream_head
from tests.support.pictures import encode

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
def test_a_camera_that_rests_leaves_out_pictures_until_it_is_woken(serve):
    """They are counted by themselves: none of them was late."""

    def answer(path, headers):
        yield stream_head()
        while True:
            yield part(jpeg(50))
            time.sleep(0.01)

    with open_camera(serve(answer).uri()) as camera:
        camera.read()
        camera.rest(True)
        for _ in range(5):
            first = camera.read()
        between = [camera.read().number for _ in range(3)]
        assert min(after - before for before, after in zip([first.number, *between], between)) > 1
        assert camera.rested > 0
        camera.rest(False)
        for _ in range(5):
            camera.read()
        rested, before = camera.rested, camera.read().number
        while camera.read().number < before + 30:
            pass
        assert camera.rested == rested


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
