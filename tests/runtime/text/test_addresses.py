"""Addresses are shown without their secrets."""

import pytest

from edgeclf_runtime.capture.diagnosis import diagnosis
from edgeclf_runtime.capture.open_camera import find_source, open_camera
from edgeclf_runtime.errors import CameraError
from tests.support.passwords import leaks


@pytest.mark.parametrize(
    ("uri", "advice", "hidden"),
    [
        ("rtsp://admin:p@ss#1@10.0.0.1/x", "'@' as %40, '#' as %23", ("p@", "ss#", "#1", "10.0")),
        ("rtsp://admin:pa/ss@HOST", "'/' as %2F", ("pa/", "ss@")),
        ("rtsp://admin:12/ss@HOST/x", "'/' as %2F", ("12", "/ss")),
        ("rtsp://admin:wo?rd@HOST", "'?' as %3F", ("wo?", "rd@")),
        ("rtsp://admin:wo:rd@HOST", "':' as %3A", ("wo:", "rd@")),
        ("rtsp://admin:wo%rd@HOST", "'%' as %25", ("wo%", "rd@")),
        ("rtsp://admin:wo rd@HOST", "' ' as %20", ("wo ", "rd@")),
        ("rtsp://admin:w\u00f6rd@HOST", "two hexadecimal digits per UTF-8 byte", ("w\u00f6", "rd@")),
        ('rtsp://admin:wo"rd@HOST', "everything except A-Z a-z 0-9", ('wo"', "rd@")),
        ("rtsp://admin:wo\nrd@HOST", "control character", ("wo\n", "rd@")),
        ("rtsp://us@er:word@HOST", "'@' as %40", ("us@", "er:", "word@")),
        ("rtsp://us/er:word@HOST", "'/' as %2F", ("us/", "er:", "word@")),
        ("HTTP://admin:wo#rd@HOST/x", "'#' as %23", ("wo#", "rd@")),
        ("rtsps://admin:wo[rd@[fe80::1]:322/x", "'[' as %5B", ("wo[", "rd@")),
        ("rtsp://admin:word@HOST:port/x", "expected rtsp://HOST:PORT/PATH", ("word@", "admin")),
        ("rtsp://admin:word@", "expected rtsp://HOST:PORT/PATH", ("word@", "admin")),
        ("rtsp://admin:word", "expected rtsp://HOST:PORT/PATH", ("admin:word",)),
        ("rtsp://HOST:8554/x@y", "'@' belongs to the path, write that as %40", ("8554",)),
    ],
)
def test_an_ambiguous_address_is_refused_without_showing_it(uri, advice, hidden):
    with pytest.raises(CameraError) as caught:
        open_camera(uri)
    assert advice in str(caught.value)
    assert "--password-file" in str(caught.value)
    assert leaks(str(caught.value), repr(caught.value), pieces=hidden) == []


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("rtsp://admin:word@10.0.0.1:8554/ch/101", "rtsp://10.0.0.1:8554/ch/101"),
        ("RTSP://admin:word@host/x", "rtsp://host/x"),
        ("rtsp://:word@host/x", "rtsp://host/x"),
        ("rtsp://admin:word@[fe80::1]:554/x", "rtsp://[fe80::1]:554/x"),
        ("rtsp://[fe80::1]/x@y", "rtsp://[fe80::1]/x%40y"),
        ("http://host/video?user=a&password=b", "http://host/video?..."),
        ("http://host/x?channel=2&token=abc&subtype=1", "http://host/x?channel=2&...&subtype=1"),
        (
            "rtsp://10.0.0.1/user=admin_password=xyz_channel=1_stream=0.sdp",
            "rtsp://10.0.0.1/channel=1&stream=0.sdp&...",
        ),
        ("rtsps://10.0.0.1:7441/aBcD1234eFgH5678?enableSrtp", "rtsps://10.0.0.1:7441/...?..."),
        ("http://host/live/me:word/1.ts", "http://host/live/.../1.ts"),
        ("http://host/x#word", "http://host/x"),
        (
            "gst://souphttpsrc location=https://u:w@h/x?sig=z user-pw=b proxy-pw=c cookies=d ! queue ! appsink",
            "gst://souphttpsrc location=https://h/x?... user-pw=... proxy-pw=... cookies=... ! queue ! appsink",
        ),
        (
            'gst://srtsrc uri="srt://h:1?passphrase=a" passphrase = "b c" ! x',
            "gst://srtsrc uri=srt://h:1?... passphrase=... ! x",
        ),
        ("gst://rtspsrc user-pw=my own word latency=0 ! queue", "gst://rtspsrc user-pw=... ... ... latency=0 ! queue"),
        ("gst://rtspsrc location=rtsp://u:a b@h/x ! queue", "gst://rtspsrc location=rtsp://... ... ! queue"),
        ('gst://x extra-headers="h,Authorization=\\"Basic YQ==\\"" ! y', "gst://x extra-headers=... ! y"),
    ],
)
def test_a_name_identifies_the_camera_without_secrets(uri, name):
    assert find_source(uri).name == name


def test_the_suggested_pipeline_is_shown_without_secrets_and_otherwise_unchanged():
    closed = find_source("gst://rtspsrc location=rtsp://a:b@h/x user-pw=secret ! decodebin")
    assert (
        'gst-launch-1.0 -v rtspsrc location=rtsp://a:"$EDGECLF_CAMERA_PASSWORD"@h/x user-pw="$EDGECLF_CAMERA_PASSWORD" '
        "! decodebin ! videoconvert"
    ) in str(CameraError(diagnosis(closed, [])))


@pytest.mark.parametrize(
    "uri", ["rtmp://u:word@h/x", "rtsp:admin:word@h/x", "rtsp:/admin:word@h", "admin:word@h", "x,login=word"]
)
def test_an_invalid_source_is_reported_without_its_password(uri):
    with pytest.raises(CameraError, match="no such source") as caught:
        open_camera(uri)
    assert "word" not in str(caught.value)
