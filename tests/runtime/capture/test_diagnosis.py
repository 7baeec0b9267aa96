"""Errors about cameras: the reader's own words, and what to do about each."""

import subprocess
import sys

import pytest

from edgeclf_runtime.capture import parent
from edgeclf_runtime.capture.diagnosis import cure
from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.capture.reader_log import ReaderLog, last_words
from edgeclf_runtime.errors import CameraError
from tests.support.cameras import free_port
from tests.support.http_servers import HttpServer, response
from tests.support.rtsp_answers import RtspAnswers

ANSWERS = {
    "401": ('WWW-Authenticate: Basic realm="it"',),
    "302": ("Location: rtsp://127.0.0.1:1/other",),
}


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine may not open anything within 10 seconds."""
    monkeypatch.setattr(parent, "OPEN_TIMEOUT_S", 60)


def refusal(uri, **options):
    with pytest.raises(CameraError) as caught:
        open_camera(uri, **options)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "method", "advice"),
    [
        ("403 Forbidden", "DESCRIBE", "does not allow this user to view the stream"),
        ("404 Not Found", "DESCRIBE", "the camera has no stream at this path"),
        ("404 Stream Not Found", "DESCRIBE", "the camera has no stream at this path"),
        ("453 Not Enough Bandwidth", "SETUP", "the camera has too many viewers"),
        ("454 Session Not Found", "PLAY", "the camera ended the session"),
        ("461 Unsupported Transport", "SETUP", "the camera does not support TCP: set OPENCV_FFMPEG_CAPTURE_OPTIONS="),
        ("500 Internal Server Error", "DESCRIBE", "the camera reports an internal error"),
        ("503 Service Unavailable", "DESCRIBE", "the camera has too many viewers"),
        ("406 Not Acceptable", "DESCRIBE", "the camera rejects this address"),
        ("400 Bad Request", "OPTIONS", "the camera rejects this address"),
    ],
)
def test_a_cameras_status_is_quoted_with_what_to_do(status, method, advice):
    with RtspAnswers(status, method) as camera:
        said = refusal(camera.uri())
    assert "/stream cannot be opened: " in said
    assert status.split()[0] in said
    assert method in said
    assert advice in said


@pytest.mark.parametrize(
    ("user", "password", "advice"),
    [
        ("", None, "the camera requires a user name and a password: write USER@HOST in the address"),
        (
            "admin@",
            None,
            "the camera requires a password: give it in the environment variable EDGECLF_CAMERA_PASSWORD or with",
        ),
        ("admin@", "geheim42", "the camera rejects the user name and password: use an account of the camera"),
    ],
)
def test_a_password_that_is_missing_or_wrong_is_told_apart_and_not_shown(user, password, advice):
    with RtspAnswers("401 Unauthorized", headers=ANSWERS["401"]) as camera:
        said = refusal(camera.uri(user), password=password)
    assert advice in said
    assert "401" in said
    assert "geheim42" not in said


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "\"it answered 'SSH-2.0-OpenSSH_9.6', which is not RTSP\": the server on port "),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "which is not RTSP"),
        (b"", 'it closed the connection without an answer": the camera closed the connection: check the address'),
    ],
    ids=["ssh", "http", "closed"],
)
def test_what_is_no_rtsp_server_is_told_by_what_it_answers(raw, said):
    with RtspAnswers(raw=raw) as camera:
        assert said in refusal(camera.uri())


@pytest.mark.slow
def test_a_camera_that_answers_nothing_times_out_and_says_so():
    with RtspAnswers(raw=None) as camera:
        said = refusal(camera.uri())
    assert 'cannot be opened, it timed out: "it does not answer": 127.0.0.1 does not answer: check the cable' in said


@pytest.mark.slow
def test_encryption_where_there_is_none_is_told(monkeypatch):
    with RtspAnswers(raw=b"RTSP/1.0 400 Bad Request\r\n\r\n") as camera:
        said = refusal(camera.uri(scheme="rtsps"))
    assert "/stream cannot be opened" in said


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_port_that_nobody_listens_on_and_a_name_that_nobody_knows_are_told_apart(scheme):
    port = free_port()
    said = refusal(f"{scheme}://127.0.0.1:{port}/x")
    assert f'"Connection refused": the host is up, but nothing listens on port {port}' in said
    said = refusal(f"{scheme}://no-such-camera.invalid/x")
    assert "the host name no-such-camera.invalid is unknown: check its spelling, or use the camera's IP address" in said


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("403 Forbidden", "does not allow this user to view the stream"),
        ("404 Not Found", "the camera has no stream at this path"),
        ("503 Busy", "has too many viewers"),
    ],
)
def test_a_camera_by_http_has_the_same_advice(status, advice):
    with HttpServer(lambda path, headers: response(status=status)) as camera:
        assert advice in refusal(camera.uri())


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Connection to tcp://10.0.0.7:554 failed: No route to host", "10.0.0.7 cannot be reached"),
        ("Network is unreachable", "10.0.0.7 cannot be reached"),
        ("Failed to resolve hostname cam: Name or service not known", "is unknown: check its spelling"),
        ("Temporary failure in name resolution", "is unknown: check its spelling"),
        ("Connection timed out", "does not answer"),
        ("The certificate is NOT trusted.", "the connection cannot be encrypted"),
        ("Could not find codec parameters for stream 0 (Video: hevc)", "set the camera to H.264"),
        ("Connection reset by peer", "the camera closed the connection"),
        ("something new", ""),
    ],
)
def test_each_word_of_the_system_has_its_advice(said, advice):
    found = cure(said, "rtsp://10.0.0.7/x")
    assert advice in found
    assert bool(advice) == bool(found)


LINES = {
    "[rtsp @ 0x55e4794d5500] method DESCRIBE failed: 404 Not Found": "method DESCRIBE failed: 404 Not Found",
    "[OPENCV:FFMPEG:16] method DESCRIBE failed: 403 (Forbidden)": "method DESCRIBE failed: 403 (Forbidden)",
    "[tcp @ 0x1a] Connection to tcp://127.0.0.1:1 failed: Connection refused": "Connection to tcp://127.0.0.1:1 failed: "
    "Connection refused",
    "[ WARN:0@0.386] global ./modules/videoio/src/cap_gstreamer.cpp (2401) handleMessage OpenCV | GStreamer warning: "
    "Embedded video playback halted; module v4l2src0 reported: Cannot identify device '/dev/video9'.": "Cannot identify "
    "device '/dev/video9'.",
    "[ WARN:0] global ../modules/videoio/src/cap_gstreamer.cpp (1824) handleMessage OpenCV | GStreamer warning: Embedded "
    "video playback halted; module rtspsrc0 reported: Unauthorized": "Unauthorized",
    "OpenCV(4.1.1) warning: something": "OpenCV(4.1.1) warning: something",
    "[ WARN:0] global cap_gstreamer.cpp (480) isPipelinePlaying OpenCV | GStreamer warning: GStreamer: pipeline have not "
    "been created": "",
    "0:00:00.018999616 23462      0x5aa4800 ERROR           GST_PIPELINE gst/parse/grammar.y:570:gst_parse_element_make: no "
    'element "nosuchelement"': 'no element "nosuchelement"',
    "0:00:00.031788398 23667     0x1e8410c0 WARN                 filesrc gstfilesrc.c:553:gst_file_src_start:<filesrc0> "
    'error: No such file "/nope"': 'No such file "/nope"',
    "0:00:00.122641930 23571     0x1a19e120 WARN                 rtspsrc gstrtspsrc.c:8422:gst_rtspsrc_open:<rtspsrc0> can't "
    "get sdp": "",
    "(python3:22848): GStreamer-CRITICAL **: 11:23:23.481: gst_bin_iterate_elements: assertion failed": "",
    "": "",
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_reader_is_quoted_without_its_context(line):
    assert last_words([line]) == [LINES[line]] * bool(LINES[line])


def test_the_last_words_are_three_lines_each_once():
    assert last_words(["one", "two", "two", "three", "four", "three", "x" * 999]) == ["three", "four", "x" * 300]


def said_by(program, *arguments, **options):
    """The last line of a Python program's stderr."""
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE)
    log = ReaderLog(process.stderr, **options)
    process.wait()
    found = log.said()
    log.join(60)
    return found


def test_an_address_that_a_reader_quotes_is_cut_down_to_the_cameras_name():
    address = "rtsp://admin:geheim42@h/aB3dE5fG7hI9jK1lM"
    program = "import sys; sys.stderr.write(sys.argv[1] + ': 404 Not Found')"
    assert said_by(program, address, hide=lambda text: text.replace(address, "rtsp://h/...")) == [
        "rtsp://h/...: 404 Not Found"
    ]


def test_a_secret_at_the_end_of_a_long_line_is_not_cut_in_half():
    program = "import sys; sys.stderr.write('x' * 270 + ' rtsp://admin:' + 'geheim42' * 9 + '@h/x\\n')"
    assert said_by(program) == ["x" * 270 + " rtsp://***@h/x"]


@pytest.mark.slow
def test_a_reader_that_never_stops_writing_holds_nobody_up():
    program = "import sys\nwhile True: sys.stderr.write('it goes on\\n' * 9999)"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    log = ReaderLog(process.stderr)
    try:
        while not log.said():
            pass
        assert "it goes on" in log.said()
    finally:
        process.kill()
        process.wait()
        log.join(60)
