"""USB cameras: names and links, requested and granted modes, controls.

The kernel's part is v4l2_camera.c, preloaded: OpenCV's own Video4Linux code opens, asks, maps and reads it.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeclf_runtime.capture import parent
from edgeclf_runtime.capture.open_camera import find_source, open_camera
from edgeclf_runtime.capture.v4l2.device import Asked, cameras, choose, device_path, report
from edgeclf_runtime.capture.v4l2.kernel import Mode, variable_name
from edgeclf_runtime.errors import CameraError, CameraLost, OptionError, SourceError
from tests.support.starting import output_of, start

SUPPORT = Path(__file__).resolve().parents[2] / "support"


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The camera that is preloaded."""
    if not sys.platform.startswith("linux") or not re.search(r"v4l2?:\s+YES", cv2.getBuildInformation(), re.IGNORECASE):
        pytest.skip("this OpenCV was built without Video4Linux")
    path = tmp_path_factory.mktemp("v4l2") / "v4l2_camera.so"
    try:
        subprocess.check_call(["gcc", "-shared", "-fPIC", "-o", str(path), str(SUPPORT / "v4l2_camera.c"), "-ldl"])
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("gcc and the headers of Linux are not installed")
    return path


@pytest.fixture
def dev(tmp_path):
    """A folder with a camera's node, like /dev."""
    folder = tmp_path / "dev"
    folder.mkdir()
    try:
        make_node(folder / "video0")
    except PermissionError:
        pytest.skip("making a device's node needs root")
    return folder


def make_node(path, number=0):
    os.mknod(str(path), 0o600 | 0o020000, os.makedev(81, number))


@pytest.fixture
def usb(library, dev, monkeypatch):
    """The node of a working camera, for this process's children; said() returns what was requested of it."""
    picture = dev.parent / "picture.jpg"
    cv2.imwrite(str(picture), np.full((720, 1280, 3), 99, np.uint8))
    for name, value in (("LD_PRELOAD", library), ("V4L_TEST_LOG", dev.parent / "log"), ("V4L_TEST_JPEG", picture)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(parent, "OPEN_TIMEOUT_S", 60)
    return dev / "video0"


def said(node):
    return (node.parent.parent / "log").read_text().splitlines()


def opened(node, **options):
    return open_camera(node, timeout_s=60, frozen_s=0, **options)


def reopen(camera):
    """Kill a camera's process, and wait until the camera is back."""
    os.kill(camera._capture._process.pid, signal.SIGKILL)
    with pytest.raises(CameraLost):
        read_on(camera)
    while camera.read() is None:
        pass


def read_on(camera):
    while True:
        camera.read()


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


@pytest.mark.slow
def test_a_camera_gives_the_frames_that_it_was_asked_for(usb, caplog):
    with opened(usb, width=640, height=480, fps=30) as camera:
        assert camera.read().image.shape == (480, 640, 3)
        assert camera.mode == "640x480 YUYV at 30 granted"
        assert camera.as_asked
    assert "asked" not in caplog.text


@pytest.mark.slow
def test_what_a_camera_granted_is_known_before_its_first_frame(usb):
    with opened(usb, width=640, height=480, fps=30) as camera:
        assert camera.wait_opened().mode == "640x480 YUYV at 30 granted"


@pytest.mark.slow
def test_mjpg_is_asked_for_where_raw_frames_are_too_slow_and_before_the_size(usb):
    with opened(usb, width=1280, height=720, fps=30) as camera:
        frame = camera.read()
        assert camera.mode == "1280x720 MJPG at 30 granted"
    assert frame.image.shape == (720, 1280, 3)
    assert abs(int(frame.image.mean()) - 99) <= 2
    lines = said(usb)
    assert lines.index("format MJPG 640x480") < lines.index("format MJPG 1280x720")


@pytest.mark.slow
def test_a_format_that_is_asked_for_is_taken_though_it_is_slower_and_the_difference_is_a_warning(usb, caplog):
    with opened(usb, width=1280, height=720, fps=30, format="yuyv") as camera:
        camera.read()
        assert not camera.as_asked
    assert "1280x720 YUYV at 30 requested, 1280x720 YUYV at 10 granted" in caplog.text


@pytest.mark.slow
def test_a_camera_of_another_size_says_so(usb, caplog):
    with opened(usb, width=800, height=600) as camera:
        assert camera.read().image.shape == (480, 640, 3)
    assert "800x600 requested, 640x480 YUYV at 30 granted" in caplog.text


@pytest.mark.slow
def test_a_side_alone_is_completed_from_what_the_camera_offers(usb):
    with opened(usb, width=1280, fps=30) as camera:
        assert camera.read().image.shape == (720, 1280, 3)


def test_a_camera_of_16_bit_gray_is_refused_since_opencv_would_drop_half_of_them(usb, monkeypatch):
    monkeypatch.setenv("V4L_TEST_FORMAT", "Y16 ")
    with pytest.raises(
        SourceError, match="delivers Y16, gray with more than 8 bits, of which OpenCV would drop the lower"
    ):
        opened(usb)
    assert said(usb)[-1] == "close"


@pytest.mark.slow
def test_more_than_one_buffer_is_the_drivers(usb):
    with opened(usb) as camera:
        camera.read()
    assert [line for line in said(usb) if line.startswith("buffers")][:1] == ["buffers 4"]
    assert "buffers 1" not in said(usb)


@pytest.mark.slow
def test_controls_are_set_at_every_opening_the_automatic_ones_first(usb):
    wanted = {"exposure": 100, "auto_exposure": "manual mode", "White Balance, Automatic": "off", "gain": "4"}
    with opened(usb, controls=wanted) as camera:
        camera.read()
        reopen(camera)
    controls = [line for line in said(usb) if line.startswith("control")]
    assert controls[:2] == ["control Auto Exposure 1", "control White Balance, Automatic 0"]
    assert sorted(controls[2:4]) == ["control Exposure Time, Absolute 100", "control Gain 4"]
    assert controls[4:] == controls[:4]


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        (
            {"shutter": 1},
            "has no control 'shutter'; it has auto_exposure, brightness, exposure_time_absolute, gain, white_balance_automatic",
        ),
        ({"gain": 101}, "'101' is not a valid value for gain: expected 0 to 100"),
        ({"gain": "high"}, "'high' is not a valid value for gain: expected 0 to 100"),
        ({"exposure_auto": 2}, "auto_exposure: expected one of 1 (Manual Mode), 3 (Aperture Priority Mode)"),
        ({"auto_white_balance": 2}, "white_balance_automatic: expected 0 (off) or 1 (on)"),
    ],
)
def test_a_control_that_the_camera_has_not_is_refused_with_those_it_has(usb, controls, message):
    with pytest.raises(SourceError, match=re.escape(message)):
        opened(usb, controls=controls)


@pytest.mark.slow
def test_a_link_to_a_link_is_a_camera_and_is_resolved_at_each_opening(usb):
    make_node(usb.parent / "video5", 5)
    middle = link(usb.parent / "front", "video0")
    name = link(usb.parent / "v4l" / "by-id" / "usb-Maker_Camera_1-video-index0", "../../front")
    with opened(name) as camera:
        camera.read()
        middle.unlink()
        link(middle, "video5")
        reopen(camera)
    nodes = [line for line in said(usb) if line.startswith("open")]
    assert nodes[0] == f"open {usb}"
    assert nodes[-1] == "open {}".format(usb.parent / "video5")


def test_the_sandbox_lets_the_camera_through_and_holds(usb):
    with opened(link(usb.parent / "cam", "video0")) as camera:
        camera.read()
        assert camera._capture.confined[:2] == ["limits", "no-new-privs"]


@pytest.mark.slow
def test_a_camera_is_stopped_in_order_when_it_is_closed(usb, monkeypatch):
    monkeypatch.setenv("V4L_TEST_CLOSE_MS", "700")
    with opened(usb) as camera:
        camera.read()
    assert said(usb)[-1] == "close"
    assert "stop" in said(usb)


@pytest.mark.slow
def test_a_camera_that_does_not_let_itself_be_stopped_is_killed(usb, monkeypatch):
    monkeypatch.setenv("V4L_TEST_CLOSE_MS", "60000")
    with opened(usb) as camera:
        camera.read()
        process = camera._capture._process
    assert process.poll() == -signal.SIGKILL


@pytest.mark.slow
def test_a_camera_that_nobody_closed_is_stopped_in_order_when_the_program_ends(usb):
    code = f"from edgeclf_runtime.capture.open_camera import open_camera; camera = open_camera({str(usb)!r}); camera.read()"
    assert subprocess.call([sys.executable, "-c", code]) == 0
    assert said(usb)[-1] == "close"


@pytest.mark.slow
def test_a_run_that_is_ended_with_all_of_its_processes_stops_its_camera_in_order(usb, bundle):
    process = start(bundle, "run", "--source", str(usb), "--json", "--control", "gain=7", environment=dict(os.environ))
    first = process.stdout.readline()
    assert b"640x480 YUYV at 30 granted" in first
    for child in children(process.pid):
        os.kill(child, signal.SIGTERM)
    process.terminate()
    code, _, err = output_of(process)
    assert code == 143, err
    assert f"{usb}: 640x480 YUYV at 30 granted" in err
    assert said(usb)[-1] == "close"
    assert "control Gain 7" in said(usb)


def children(pid):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(entry))
        except OSError:
            continue  # it has just ended
    return found


def test_every_name_of_a_camera_is_known(dev, monkeypatch):
    node = dev / "video0"
    monkeypatch.chdir(dev)
    for name in (node, link(dev / "a", "video0"), link(dev / "b", "a"), f"v4l2://{node}"):
        assert os.path.realpath(device_path(str(name))) == str(node)
    assert device_path("a") == str(dev / "a")
    assert find_source(str(dev / "b")).location == str(dev / "b")
    for name, path in (("3", "/dev/video3"), ("v4l2://3", "/dev/video3"), ("/dev/video3", "/dev/video3")):
        assert device_path(name) == path
    assert device_path("/dev/v4l/by-id/usb-that-is-not-there") == "/dev/v4l/by-id/usb-that-is-not-there"


def test_what_is_no_camera_is_not_taken_for_one(tmp_path):
    assert device_path("/dev/null") is None
    assert device_path("nowhere") is None
    assert device_path("/dev/shm/no-such-video.mp4") is None
    assert device_path(str(link(tmp_path / "a", "nowhere"))) is None
    assert device_path("v4l2://front") is None
    assert device_path("v4l2://\u00b2") is None
    name = link(tmp_path / "b", "/dev/null")
    with pytest.raises(CameraError, match="links to /dev/null, which is not a source; expected a video file"):
        open_camera(name)


def test_a_link_that_leads_nowhere_below_dev_is_waited_for_as_a_camera(tmp_path):
    name = link(tmp_path / "front", "/dev/video97")
    with pytest.raises(
        CameraError, match=r"front is not available: check whether it is connected\. Cameras on this machine: "
    ):
        open_camera(name)


def test_a_node_without_a_driver_says_what_the_system_says(dev, monkeypatch):
    monkeypatch.setattr(parent, "OPEN_TIMEOUT_S", 60)
    with pytest.raises(CameraError, match=r"video0 cannot be opened: No such device.*; reconnect it\. Cameras on"):
        open_camera(dev / "video0")


def test_formats_and_controls_are_for_usb_cameras():
    with pytest.raises(
        OptionError, match="test:// is not a USB camera: --control is only for sources such as /dev/video0"
    ):
        open_camera("test://", controls={"gain": 1})
    with pytest.raises(OptionError, match="is not a USB camera: --format is only for sources such as /dev/video0"):
        open_camera("rtsp://127.0.0.1:1/x", format="MJPG")
    with pytest.raises(OptionError, match="expected four characters such as MJPG or YUYV"):
        open_camera("/dev/video97", format="motion jpeg")


RAW = Mode("YUYV", (640, 640), (480, 480), 30)
SLOW = Mode("YUYV", (1920, 1920), (1080, 1080), 5)
PACKED = Mode("MJPG", (1920, 1920), (1080, 1080), 30000 / 1001)
STEPS = Mode("NV12", (32, 3840), (32, 2160), 0)
NOTHING = Asked(None, None, None, None)


@pytest.mark.parametrize(
    ("offered", "asked", "expected"),
    [
        ([RAW, PACKED], NOTHING, NOTHING),
        ([RAW, PACKED], (None, 640, 480, 30), ("YUYV", 640, 480, 30)),
        ([RAW, PACKED], (None, 640, 480, 60), ("YUYV", 640, 480, 60)),
        ([SLOW, PACKED], (None, 1920, 1080, None), ("MJPG", 1920, 1080, None)),
        ([SLOW, PACKED], (None, 1920, 1080, 5), ("YUYV", 1920, 1080, 5)),
        ([SLOW, PACKED], (None, 1920, 1080, 30), ("MJPG", 1920, 1080, 30)),
        ([SLOW, PACKED], ("YUYV", 1920, 1080, 30), ("YUYV", 1920, 1080, 30)),
        ([RAW, PACKED], (None, 1920, None, None), ("MJPG", 1920, 1080, None)),
        ([RAW, PACKED], (None, None, 480, None), ("YUYV", 640, 480, None)),
        ([STEPS], (None, 1000, 700, 25), ("NV12", 1000, 700, 25)),
        ([RAW], (None, 800, 600, None), (None, 800, 600, None)),
        ([], (None, 640, 480, 30), (None, 640, 480, 30)),
        ([], (None, 1280, 720, 30), ("MJPG", 1280, 720, 30)),
        ([], (None, 1280, 720, 10), (None, 1280, 720, 10)),
        ([], ("YUYV", 1280, 720, 30), ("YUYV", 1280, 720, 30)),
    ],
)
def test_what_is_asked_of_a_camera_follows_from_what_it_offers(offered, asked, expected):
    assert choose(offered, Asked(*asked)) == Asked(*expected)


def test_a_message_that_lists_the_cameras_leaves_codecs_out(tmp_path):
    for node, name in (
        ("video0", "HD Webcam: HD Webcam"),
        ("video10", "bcm2835-codec-decode"),
        ("video19", "rpi-hevc-dec"),
    ):
        (tmp_path / "sys/class/video4linux" / node).mkdir(parents=True)
        (tmp_path / "sys/class/video4linux" / node / "name").write_text(name + "\n")
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / node).write_text("")
    assert cameras(str(tmp_path)) == f"Cameras on this machine: {tmp_path}/dev/video0"


def test_a_report_tells_what_was_granted_of_what_was_asked():
    granted = Asked("MJPG", 1280, 720, 29.97)
    assert report(Asked("MJPG", 1280, 720, 30), granted) == ("1280x720 MJPG at 29.97 granted", True)
    assert report(NOTHING, granted) == ("1280x720 MJPG at 29.97 granted", True)
    assert report(Asked(None, None, None, 60), granted) == ("at 60 requested, 1280x720 MJPG at 29.97 granted", False)
    assert report(Asked(None, 640, 480, None), granted)[1] is False
    assert report(Asked(None, 640, None, None), granted)[0].startswith("width 640 requested, 1280x720 ")
    assert report(Asked(None, None, 640, 60), granted)[0].startswith("height 640 at 60 requested, 1280x720 ")
    assert report(NOTHING, NOTHING) == ("unknown mode granted", True)
    assert report(NOTHING, granted, ["gain is 3, 4 was asked"])[1] is False


def test_controls_are_named_as_v4l2_ctl_names_them():
    names = ("White Balance, Automatic", "Exposure Time, Absolute", "Zoom, Absolute", "Gain", "Power Line Frequency")
    assert [variable_name(name) for name in names] == [
        "white_balance_automatic",
        "exposure_time_absolute",
        "zoom_absolute",
        "gain",
        "power_line_frequency",
    ]
