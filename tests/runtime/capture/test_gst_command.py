"""The gst-launch-1.0 command that an error suggests: it runs when pasted into a shell, and shows no password."""

import os
import shutil
import subprocess

import pytest

from edgeclf_runtime.capture.gst_command import launch_command
from edgeclf_runtime.capture.source import csi_pipeline
from edgeclf_runtime.errors import CameraError
from tests.runtime.capture.test_gstreamer import run_by_system, with_gstreamer

with_gst_launch = pytest.mark.skipif(
    not (shutil.which("gst-launch-1.0") and shutil.which("bash")), reason="gstreamer1.0-tools are not installed"
)
# As users write them after gst://; each ends by itself.
RUNNING = {
    "plain": "videotestsrc num-buffers=2 ! videoconvert ! appsink",
    "our own end": "videotestsrc num-buffers=2 ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false",
    "caps with a type": "videotestsrc num-buffers=2 ! video/x-raw, format=(string)I420, width=(int)64 ! appsink",
    "caps with a feature": "videotestsrc num-buffers=2 ! video/x-raw(memory:SystemMemory),width=64 ! appsink",
    "caps with a list": "videotestsrc num-buffers=2 ! video/x-raw,format={I420,YV12},framerate=[1/1,30/1] ! appsink",
    "a space that is escaped": "videotestsrc num-buffers=2 name=a\\ b ! appsink",
    "caps of the appsink": 'videotestsrc num-buffers=2 ! appsink caps="video/x-raw, width=64, format=BGR" drop=1',
    "a named appsink": "videotestsrc num-buffers=2 ! appsink name=opencvsink emit-signals=true",
    "no white space": "videotestsrc num-buffers=2 !videoconvert!appsink",
    "white space around =": "videotestsrc num-buffers = 2 ! appsink  drop = true",
    "a value in quotation marks": 'videotestsrc num-buffers=2 pattern="ball" ! appsink',
    "branches": "videotestsrc num-buffers=2 ! tee name=t t. ! queue ! appsink t. ! queue ! fakesink",
    "a bin": "( videotestsrc num-buffers=2 ! identity ) ! appsink",
    "what a shell would expand": 'videotestsrc num-buffers=2 ! identity name="$HOME `id` $(id) \\"quoted\\" it\'s *" ! appsink',
    "an encoder": "videotestsrc num-buffers=2 ! x264enc key-int-max=30 bframes=0 ! fakesink videotestsrc num-buffers=1 ! appsink",
}


def pasted(command, **environment):
    return subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        env=dict(os.environ, **environment),
    )


@with_gst_launch
@pytest.mark.parametrize("kind", sorted(RUNNING))
def test_the_command_runs_when_pasted(kind):
    command = launch_command(RUNNING[kind])
    out = pasted(command)
    assert out.returncode == 0, command + "\n" + out.stdout.decode("utf-8", "replace")
    assert b"erroneous pipeline" not in out.stdout
    assert "appsink" not in command.replace("name=opencvsink", "")


@with_gst_launch
def test_a_file_with_any_name_is_found_by_the_pasted_command(tmp_path):
    path = tmp_path / "it's a $HOME \u00fc video.raw"
    path.write_bytes(bytes(64 * 48 * 3))
    shown = str(path).replace('"', '\\"')
    pipeline = f'filesrc location="{shown}" ! rawvideoparse width=64 height=48 format=bgr ! appsink'
    out = pasted(launch_command(pipeline))
    assert out.returncode == 0, out.stdout.decode("utf-8", "replace")


@with_gst_launch
def test_the_command_of_a_jetsons_camera_is_read_as_a_pipeline():
    out = pasted(launch_command(csi_pipeline(0)))
    assert b'no element "nvarguscamerasrc"' in out.stdout


SECRET = "geheim42"


@pytest.mark.parametrize(
    "pipeline",
    [
        "rtspsrc location=rtsp://h/x user-id=me user-pw={} ! decodebin ! appsink",
        "rtspsrc location=rtsp://me:{}@h/x ! decodebin ! appsink",
        'rtspsrc location="rtsp://me:{}@h/x" ! decodebin ! appsink',
        "souphttpsrc location=http://h/x?user=me&pwd={}&channel=1 ! jpegdec ! appsink",
        'souphttpsrc location=http://h/x extra-headers="x,authorization={}" ! jpegdec ! appsink',
        "rtspsrc location=rtsp://h/x user-pw=its {} in two words ! decodebin ! appsink",
        "rtspsrc location=rtsp://h/aB3dE5fG7hI9jK1lM{} ! decodebin ! appsink",
    ],
)
def test_no_secret_is_in_the_command(pipeline):
    shown = str(CameraError("see what this command prints: " + launch_command(pipeline.format(SECRET))))
    assert SECRET not in shown
    assert shown.endswith("! fakesink sync=false")


@with_gst_launch
def test_the_variable_in_a_secrets_place_is_filled_by_the_shell():
    command = str(CameraError(launch_command("fdsrc name=password num-buffers=1 ! appsink")))
    assert command == "gst-launch-1.0 -v fdsrc name=password num-buffers=1 ! fakesink sync=false"
    command = str(
        CameraError(launch_command("rtspsrc location=rtsp://127.0.0.1:1/x user-id=me user-pw=geheim42 ! appsink"))
    )
    out = pasted("set -u; " + command, EDGECLF_CAMERA_PASSWORD="a b$c")
    assert b"Could not open resource" in out.stdout
    assert b"erroneous pipeline" not in out.stdout


OPEN = """
import sys
import edgeclf_runtime.capture.parent
edgeclf_runtime.capture.parent.OPEN_TIMEOUT_S = 60
from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.errors import CameraError
for pipeline in sys.argv[1:]:
    try:
        open_camera("gst://" + pipeline)
    except CameraError as error:
        print(error)
"""


@pytest.mark.slow
@with_gstreamer
def test_what_gstreamer_says_is_quoted_before_the_command():
    out = run_by_system(
        OPEN,
        "nosuchelement ! appsink",
        "videotestsrc nosuchproperty=3 ! appsink",
        "filesrc location=/nowhere/video.mp4 ! decodebin ! appsink",
        "rtspsrc location=rtsp://127.0.0.1:1/x ! decodebin ! appsink",
    )
    assert out.stderr == b""
    missing, wrong, nowhere, refused = out.stdout.decode().splitlines()
    assert 'no element "nosuchelement"' in missing
    assert 'no property "nosuchproperty" in element "videotestsrc"' in wrong
    assert "/nowhere/video.mp4" in nowhere.partition("cannot be opened")[2].partition("gst-launch-1.0")[0]
    assert '"Failed to connect' in refused
    assert all(
        "; see what this command prints: gst-launch-1.0 -v " in line or ": see what this command prints: " in line
        for line in out.stdout.decode().splitlines()
    )
