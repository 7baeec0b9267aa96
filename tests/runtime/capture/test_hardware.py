"""Decoders of the hardware: their pipelines, the choice, and the way back to software.

No such hardware is here.  So a copy of the runtime names GStreamer's software decoder in its table, and everything else is real:
OpenCV with GStreamer, an RTSP server, cameras that are lost.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import edgeclf_runtime
from edgeclf_runtime.capture.fallback import Fallback
from edgeclf_runtime.capture.hardware.choose import with_decoder
from edgeclf_runtime.capture.hardware.decoders import DECODERS, file_pipeline, stream_pipeline
from edgeclf_runtime.capture.hardware.describe import codec_in, video_codec
from edgeclf_runtime.capture.open_camera import find_source, open_camera
from edgeclf_runtime.capture.readers.hardware_stream import Progress
from edgeclf_runtime.errors import CameraError, OptionError
from tests.runtime.capture.test_gstreamer import with_gstreamer
from tests.support.cameras import SYSTEM_PYTHON, Server, has_rtsp_server
from tests.support.rtsp_answers import SDP, RtspAnswers

RUNTIME = Path(edgeclf_runtime.__file__).resolve().parent
with_server = pytest.mark.skipif(
    not has_rtsp_server(), reason="Debian's gir1.2-gst-rtsp-server-1.0 and python3-gi are not installed"
)
# GStreamer's own parser builds each pipeline; for elements that are not here it gets the names of ones that do the same in software.
PARSE = """
import re, sys, gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
for text in sys.argv[1:]:
    decoder = "openh264dec" if "h264parse" in text else "libde265dec"
    for name in re.findall(r"! (\\w+) name=decoder", text):
        if not Gst.ElementFactory.find(name):
            text = text.replace("! " + name + " name", "! " + (decoder if "dec" in name else "videoconvert") + " name")
    pipeline = Gst.parse_launch(text)
    found = [element for element in pipeline.children if element.get_factory().get_name() in ("rtspsrc", "filesrc")]
    print([found[0].get_property(name) for name in ("location", "user-id", "user-pw") if found[0].find_property(name)])
"""
with_openh264 = pytest.mark.skipif(
    subprocess.call("gst-inspect-1.0 --exists openh264dec", shell=True, stderr=subprocess.DEVNULL) != 0,
    reason="Debian's gstreamer1.0-tools and gstreamer1.0-plugins-bad are not installed",
)
READ = """
import json, logging, sys
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
from edgeclf_runtime import open_camera
from edgeclf_runtime.errors import CameraLost
from edgeclf_runtime.capture import parent, reconnect
reconnect.FIRST_PAUSE_S = 0.1
reconnect.OPEN_TIMEOUT_S = parent.OPEN_TIMEOUT_S = 4
uri, count, decode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with open_camera(uri, decode=decode, timeout_s=1) as camera:
    frames = 0
    while frames < count:
        try:
            frames += camera.read() is not None
        except CameraLost as lost:
            print("lost:", lost)
    print(camera.losses)
"""
BOTH = """
import sys
from edgeclf_runtime import open_camera
with open_camera(sys.argv[1], decode="hardware") as first, open_camera(sys.argv[1], decode="software") as second:
    pairs = [(first.read().image.astype("int16"), second.read().image.astype("int16")) for _ in range(20)]
print(max(min(abs(image - other).max() for _, other in pairs) for image, _ in pairs[5:15]))
"""
FILE = """
import sys
from edgeclf_runtime import open_camera
from edgeclf_runtime.errors import EndOfStream
def frames(decode):
    with open_camera(sys.argv[1], decode=decode) as camera:
        try:
            while True:
                frame = camera.read()
                yield frame.image.astype("int16").copy(), round(frame.position_s, 4)
        except EndOfStream:
            pass
ours, theirs = list(frames("hardware")), list(frames("software"))
same = [at for _, at in ours] == [at for _, at in theirs]
print(len(ours), len(theirs), same, max(abs(a - b).max() for (a, _), (b, _) in zip(ours, theirs)))
"""


def start(runtime, *arguments):
    """Start Debian's Python with a copy of the runtime."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment.update(PYTHONPATH=str(runtime), PYTHONDONTWRITEBYTECODE="1")
    command = [SYSTEM_PYTHON, "-c", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)


def said_by(process):
    """Return what a process prints until it ends."""
    return process.communicate(timeout=60)[0].decode("utf-8")


def with_element(folder, element, behind=""):
    """Copy the runtime to a folder, with one decoder in its table: an element, and what is behind it."""
    shutil.copytree(str(RUNTIME), str(folder / "edgeclf_runtime"), ignore=shutil.ignore_patterns("__pycache__"))
    table = folder / "edgeclf_runtime" / "capture" / "hardware" / "decoders.py"
    line = f"DECODERS = (Decoder('H264', {element!r}, ('/dev/null',), {behind!r}),)\n\n\ndef likely"
    table.write_text(table.read_text("utf-8").replace("def likely", line), encoding="utf-8")
    return folder


@with_gstreamer
@with_openh264
@with_server
@pytest.mark.parametrize("password", ['a "b" \\\\ c ! d', "NULL", '"x"', "\u00fc%20"])
def test_gstreamer_reads_every_pipeline_as_it_is_meant(password):
    location = find_source("rtsp://me@10.0.0.7:8554/a b?x=1&y={}", password=password).location
    streams = [stream_pipeline(decoder, location) for decoder in DECODERS]
    files = [file_pipeline(decoder, '/a "b"/c!.mp4', name) for decoder in DECODERS for name in ("MP4", "Matroska")]
    lines = said_by(start(RUNTIME.parent, PARSE, *streams, *files)).splitlines()
    assert lines[: len(streams)] == [str(["rtsp://10.0.0.7:8554/a b?x=1&y={}", "me", password])] * len(streams)
    assert lines[len(streams) :] == [str(['/a "b"/c!.mp4'])] * len(files)


@pytest.mark.parametrize(
    ("description", "codec"),
    [
        (SDP, "H264"),
        (SDP.replace(b"H264", b"h265"), "H265"),
        (b"m=audio 0 RTP/AVP 0\n" + SDP.replace(b"\r", b""), "H264"),
        (SDP.replace(b"a=rtpmap:96", b"a=rtpmap:97"), ""),
        (b"m=audio 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n", ""),
        (b"m=video 0 RTP/AVP 26\nm=audio 0 RTP/AVP 26\na=rtpmap:26 H264/90000\n", ""),
        (b"m=video " + b"9" * 100000 + b"\xff" * 100000, ""),
        (b"", ""),
    ],
)
def test_the_codec_is_that_of_the_first_video_stream(description, codec):
    assert codec_in(description) == codec


def test_a_camera_is_asked_for_its_codec():
    with RtspAnswers(method="SETUP") as camera:
        assert video_codec(f"rtsp://me:geheim@127.0.0.1:{camera.port}/x", ["127.0.0.1", camera.port]) == "H264"
        assert camera.requests == [f"DESCRIBE rtsp://127.0.0.1:{camera.port}/x RTSP/1.0"]


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"status": "404 Not Found"}, "answered DESCRIBE with 404"),
        ({"status": "401 Unauthorized", "headers": ["WWW-Authenticate: Digest realm"]}, "in an unknown way"),
        ({"raw": b"HTTP/1.1 200 OK\r\n\r\n"}, "which is not RTSP"),
        ({"raw": b"RTSP/1.0 200 OK\r\nContent-Length: 999999999\r\n\r\n"}, "an invalid length"),
        ({"raw": b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n"}, "an invalid length"),
        ({"raw": b"RTSP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nshort"}, "closed the connection"),
        ({"raw": b"RTSP/1.0 200 OK\r\n" + b"a: b\r\n" * 20000}, "does not end"),
        ({"raw": b"RTSP/1.0 200 OK\r\n" + b"a: b\r\n" * 2000 + b"\r\n"}, "endless headers"),
        ({"raw": b""}, "closed the connection|broke the connection"),
    ],
)
def test_a_camera_that_does_not_describe_its_stream_does_no_harm(answers, why):
    with RtspAnswers(**answers) as camera, pytest.raises(ValueError, match=why):
        video_codec(f"rtsp://me:geheim@127.0.0.1:{camera.port}/x", ["127.0.0.1", camera.port])


def test_a_decoder_that_falls_behind_twice_in_a_row_is_too_slow():
    progress = Progress()
    assert progress.add(100.0, 5.0) is None
    assert not progress.wants(102.0)
    assert progress.wants(103.0)
    assert progress.add(103.0, 6.0) is None  # a pause of the camera
    assert progress.add(106.0, 10.0) is None
    assert progress.add(109.0, 10.5) is None
    assert progress.add(112.0, 12.0) == 0.5
    assert not progress.wants(131.0)


def test_a_clock_that_opencv_does_not_know_is_not_slow():
    progress = Progress()
    assert [progress.add(float(clock), 0.0) for clock in range(0, 30, 3)] == [None] * 10


class Ended:
    """A capture process that has ended; ``blamed``: whether the decoder seems to be why."""

    decoder = "nvv4l2decoder"

    def __init__(self, blamed):
        self.decoder_failed = lambda: blamed


def test_hardware_is_tried_again_if_software_shows_no_frames_either(caplog):
    source = find_source("rtsp://10.0.0.7/x")
    fallback = Fallback(source)
    assert not fallback.after(Ended(False), "lost")
    assert fallback.source is source
    assert fallback.after(Ended(True), "no frames")
    assert fallback.source.decode == "software"
    assert not fallback.after(Ended(False), "no frames")
    assert fallback.source is source
    fallback.settle()
    assert caplog.text == ""


def test_software_stays_once_it_shows_frames(caplog):
    fallback = Fallback(find_source("rtsp://10.0.0.7/x"))
    fallback.after(Ended(True), "no frames")
    fallback.settle()
    fallback.settle()
    assert not fallback.after(Ended(False), "lost")
    assert fallback.source.decode == "software"
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        "rtsp://10.0.0.7/x is decoded in software from now on, because nvv4l2decoder failed in hardware: no frames"
    )


def test_there_is_no_way_back_from_hardware_that_is_demanded():
    fallback = Fallback(find_source("rtsp://10.0.0.7/x")._replace(decode="hardware"))
    assert not fallback.after(Ended(True), "no frames")
    assert fallback.source.decode == "hardware"


@pytest.mark.parametrize("decode", ["auto", "software"])
def test_a_file_and_a_stream_without_hardware_stay_as_they_are(tmp_path, decode):
    (tmp_path / "v.mp4").write_bytes(b"")
    reports = []
    for uri in (str(tmp_path / "v.mp4"), "csi://0", "rtsps://127.0.0.1/x", "http://127.0.0.1/x"):
        source = find_source(uri)._replace(decode=decode)
        assert with_decoder(source, reports.append) is source
    assert reports == []


def test_hardware_is_only_for_streams_and_files():
    with pytest.raises(OptionError, match="test:// is neither an rtsp:// address nor a video file"):
        open_camera("test://", decode="hardware")
    with pytest.raises(OptionError, match="decode is 'gpu'; expected one of auto, hardware, software"):
        open_camera("test://", decode="gpu")


def test_hardware_that_is_demanded_and_not_there_is_an_error(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"x")
    with pytest.raises(
        CameraError, match=r"needs an OpenCV with GStreamer|cannot be decoded in hardware: GStreamer has none"
    ):
        open_camera(tmp_path / "v.mp4", decode="hardware")


@pytest.mark.slow
@with_gstreamer
@with_openh264
def test_a_camera_that_refuses_says_why_also_if_hardware_is_demanded(tmp_path):
    with RtspAnswers(status="403 Forbidden") as camera:
        said = said_by(start(with_element(tmp_path, "openh264dec"), READ, camera.uri(), "1", "hardware"))
    assert 'cannot be opened: "it answered DESCRIBE with 403": the camera does not allow this user' in said


@with_gstreamer
def test_an_element_that_gstreamer_does_not_have_is_not_tried(tmp_path):
    code = (
        "from edgeclf_runtime.capture.hardware.choose import with_decoder\n"
        "from edgeclf_runtime.capture.open_camera import find_source\n"
        "print(with_decoder(find_source('rtsp://127.0.0.1:9/x'), lambda name: print([name])).pipeline)"
    )
    assert said_by(start(with_element(tmp_path, "nosuchdecoder"), code)) == "['GStreamer']\n['']\n\n"


@pytest.mark.slow
@with_gstreamer
@with_openh264
@with_server
def test_a_stream_is_decoded_like_ffmpeg_does_also_after_a_loss(tmp_path):
    runtime = with_element(tmp_path, "openh264dec")
    with Server("rtsp", CAMERA_USER="me", CAMERA_SECRET="geheim", CAMERA_AUTH="digest") as server:
        uri = server.uri().replace("//", "//me:geheim@")
        both = start(runtime, BOTH, uri)
        assert int(said_by(both).splitlines()[-1]) <= 8
        reading = start(runtime, READ, uri, "60", "auto")
        said = [reading.stdout.readline().decode("utf-8") for _ in range(3)]
        assert said[-1].endswith("delivers frames of 160 x 120\n"), said
        server.kill()
        said.append(reading.stdout.readline().decode("utf-8"))
        server.start()
        said = "".join(said) + said_by(reading)
    assert "WARNING camera lost: " in said
    assert len(re.findall("is decoded in hardware by openh264dec\n", said)) == 2, said
    assert said.endswith("\n1\n")
    assert "software" not in said
    assert "geheim" not in said


@pytest.mark.slow
@with_gstreamer
@with_openh264
@with_server
def test_software_takes_over_from_a_decoder_that_fails(tmp_path):
    # Elements behind the decoder, how often the camera is lost, why.
    faults = [
        (" ! valve drop=true", 0, "did not open within 4 s"),
        (" ! identity name=decoder_out error-after=10", 1, 'sent no frame for .*"Failed after iterations'),
        (
            " ! identity sleep-time=100000",
            1,
            r"it decodes \S* slower than the camera sends, 0\.\d\d s of video in a second",
        ),
    ]
    with Server("rtsp") as server:
        running = []
        for number, (behind, _, _) in enumerate(faults):
            runtime = with_element(tmp_path / str(number), "openh264dec", behind)
            reader = runtime / "edgeclf_runtime" / "capture" / "readers" / "hardware_stream.py"
            reader.write_text(reader.read_text("utf-8").replace("_LEAST_SHARE = 3.0", "_LEAST_SHARE = 0.5"), "utf-8")
            running.append(start(runtime, READ, server.uri(), "30", "auto"))
        for process, (_, losses, why) in zip(running, faults):
            said = said_by(process)
            assert re.search("from now on, because openh264dec failed in hardware: .*" + why, said), said
            assert said.endswith(f"\n{losses}\n"), said


@pytest.mark.slow
@with_gstreamer
@with_openh264
def test_a_video_file_in_hardware_has_the_frames_and_times_of_software(tmp_path):
    runtime = with_element(tmp_path, "openh264dec")
    made = []
    for muxer in ("mp4mux", "matroskamux"):
        # openh264dec shows slightly other pictures for other profiles.
        encoder = "x264enc ! video/x-h264,profile=constrained-baseline ! " + muxer
        video = "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=25/1"
        made.append(str(tmp_path / muxer))
        subprocess.check_call(["gst-launch-1.0", "-q", *f"{video} ! {encoder} ! filesink location={made[-1]}".split()])
    for process in [start(runtime, FILE, path) for path in made]:
        counted = said_by(process).split()
        assert counted[:3] == ["30", "30", "True"], counted
        assert int(counted[3]) <= 8
