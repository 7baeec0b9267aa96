"""The pipelines for a Jetson's cameras, on an OpenCV with GStreamer: Debian's, built like JetPack's."""

import json
import os
import subprocess
from pathlib import Path

import pytest

import edgeclf_runtime
from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.capture.source import csi_pipeline
from edgeclf_runtime.errors import CameraError
from tests.support.cameras import SYSTEM_PYTHON

HOME = Path(edgeclf_runtime.__file__).resolve().parent.parent
HAS_GSTREAMER = "import cv2, re, sys; sys.exit(not re.search(r'GStreamer:\\s+YES', cv2.getBuildInformation()))"
READ = """
import json, sys
from edgeclf_runtime.capture.open_camera import open_camera
with open_camera(sys.argv[1], timeout_s=10) as camera:
    frames = [camera.read() for _ in range(10)]
    print(json.dumps([[frame.image.shape, frame.number, round(frame.age_ms)] for frame in frames]))
"""


def run_by_system(*arguments):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment.update(PYTHONPATH=str(HOME), PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run(  # noqa: UP022 - Python 3.6 has no capture_output
        [SYSTEM_PYTHON, "-c", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        timeout=60,
    )


def has_gstreamer():
    return os.path.exists(SYSTEM_PYTHON) and run_by_system(HAS_GSTREAMER).returncode == 0


with_gstreamer = pytest.mark.skipif(
    not has_gstreamer(), reason="Debian's python3-opencv and gstreamer1.0-plugins-base are not installed"
)


def test_a_csi_camera_is_read_by_the_pipeline_that_nvidia_documents():
    assert csi_pipeline("1", 640, 480, 60, "180") == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=640,height=480,framerate=60/1 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )


@pytest.mark.slow
@with_gstreamer
def test_the_pipeline_behind_the_sensor_gives_frames():
    _, behind = csi_pipeline("0", 320, 240).split("nvvidconv flip-method=0 ! ")
    sensor = "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! videoconvert ! "
    frames = run_by_system(READ, "gst://" + sensor + behind)
    assert frames.returncode == 0, frames.stderr.decode()
    frames = json.loads(frames.stdout.decode())
    assert [shape for shape, _, _ in frames] == [[240, 320, 3]] * 10
    assert max(age for _, _, age in frames) < 60000


@pytest.mark.slow
@with_gstreamer
def test_a_pipeline_without_an_end_is_given_the_one_that_keeps_the_newest_frame():
    frames = run_by_system(READ, "gst://videotestsrc is-live=true ! video/x-raw,width=64,height=48")
    assert [shape for shape, _, _ in json.loads(frames.stdout.decode())] == [[48, 64, 3]] * 10


@pytest.mark.slow
@with_gstreamer
def test_a_csi_camera_that_is_not_there_is_an_error():
    out = run_by_system("import edgeclf_runtime.capture.parent as c; c.OPEN_TIMEOUT_S = 2" + READ, "csi://0")
    assert b"see what this command prints: gst-launch-1.0 -v nvarguscamerasrc sensor-id=0 ! " in out.stderr


def test_an_opencv_without_gstreamer_says_which_has_it():
    import re

    import cv2

    if re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(CameraError, match=r"needs an OpenCV with GStreamer.*the system's python3-opencv"):
        open_camera("csi://0")


@with_gstreamer
@pytest.mark.parametrize("jetsons", [(), ("no_such_element",)])
def test_looking_for_an_encoder_of_h264_says_nothing_of_those_that_are_missing(jetsons):
    code = (
        "import ast, sys, cv2\nfrom edgeclf_runtime.sinks.movies import h264\n"
        "h264._ENCODERS = ast.literal_eval(sys.argv[1]) + h264._ENCODERS\nbefore = cv2.getLogLevel()\n"
        "print(h264.encoder(), cv2.getLogLevel() == before)"
    )
    ended = run_by_system(code, str(jetsons))
    assert (ended.returncode, ended.stderr.decode("utf-8")) == (0, "")
    assert ended.stdout.decode("utf-8").endswith(" True\n")


@with_gstreamer
def test_a_pipeline_that_is_waited_for_says_which_element_is_missing():
    code = (
        "import sys\nfrom edgeclf_runtime.capture import reconnect as watch\nfrom edgeclf_runtime.capture.open_camera import open_camera\n"
        "from edgeclf_runtime.errors import CameraLost\nwatch.OPEN_TIMEOUT_S = 8\n"
        "with open_camera(sys.argv[1], timeout_s=1, wait=False) as camera:\n"
        "    try:\n        while True: camera.read()\n    except CameraLost as lost: print(lost)\n"
    )
    said = run_by_system(code, "gst://nosuchelement ! videoconvert").stdout.decode("utf-8")
    assert (
        ' did not open within 8 s: "no element "nosuchelement"": see what this command prints: gst-launch-1.0 -v nosuch'
        in said
    )
