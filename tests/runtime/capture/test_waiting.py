"""Runs whose camera, broker, page or disk is not available yet, as when a machine boots."""

import json
import os
import signal
import socket
import subprocess

import pytest

from tests.support.cameras import Proxy, Server, free_port, has_rtsp_server
from tests.support.starting import WAIT_S, output_of, start
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

rtsp = pytest.param(
    "rtsp",
    marks=pytest.mark.skipif(
        not has_rtsp_server(), reason="Debian's gir1.2-gst-rtsp-server-1.0 and python3-gi are not installed"
    ),
)


def next_line(process):
    """The next line that a run prints."""
    return json.loads(process.stdout.readline().decode("utf-8"))


def until(process, condition):
    """The first of a run's lines that fits."""
    while True:
        line = next_line(process)
        if condition(line):
            return line


@pytest.mark.parametrize(
    "source",
    [
        "/dev/video99",
        "v4l2://99",
        "99",
        "http://127.0.0.1:{port}/video",
        "https://127.0.0.1:{port}/video",
        "rtsp://127.0.0.1:{port}/stream",
        "rtsp://no-such-camera.invalid/stream",
        "http://[::1]:{port}/video",
    ],
)
def test_a_camera_that_is_not_there_is_waited_for_and_a_signal_ends_that(bundle, source):
    number = signal.SIGINT if source.startswith("99") else signal.SIGTERM
    process = start(bundle, "run", "--wait", "--json", "--source", source.format(port=free_port()))
    lost = next_line(process)
    assert lost["state"] == "lost"
    assert "is not available: " in lost["reason"]
    assert process.poll() is None
    process.send_signal(number)
    code, out, err = output_of(process)
    assert (code, out) == (128 + number, "")
    assert "camera lost: " in err
    assert "0 frames classified" in err.splitlines()[-1]


@pytest.mark.parametrize("kind", ["mjpeg", rtsp])
def test_a_camera_that_comes_later_is_classified(bundle, kind):
    server = Server(kind)
    process = start(bundle, "run", "--wait", "--json", "--source", server.uri())
    assert next_line(process)["state"] == "lost"
    with server:
        live = next_line(process)
        assert live["state"] == "live"
        assert "reason" in live
        assert next_line(process)["label"]
        process.terminate()
        code, _, err = output_of(process)
    assert code == 143
    assert f"{server.uri()} is available" in err


def test_a_camera_that_answers_nonsense_at_first_is_tried_again(bundle):
    with Server("mjpeg") as server, Proxy(server.port) as proxy:
        proxy.send_garbage()
        process = start(bundle, "run", "--wait", "--json", "--source", server.uri(proxy.port))
        assert next_line(process)["state"] == "lost"
        proxy.send_garbage(False)
        assert until(process, lambda line: "label" in line)["state"] == "live"
        process.terminate()
        assert output_of(process)[0] == 143


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no-such-video.mp4", "no such source"),
        ("ftp://camera/video", "no such source"),
        ("rtsp://", "is not a camera address"),
        ("test://?fault=none", "is not a generated source"),
        ("empty", "holds no image"),
        ("http://user:p@ss@camera/", "is not a camera address"),
    ],
)
def test_a_mistake_that_waiting_does_not_mend_ends_a_run_at_once(bundle, tmp_path, source, message):
    if source == "empty":
        source = tmp_path
    code, out, err = output_of(start(bundle, "run", "--wait", "--source", source))
    assert (code, out) == (1, "")
    assert message in err.splitlines()[-1]


def test_an_opencv_that_cannot_read_a_camera_ends_a_run_at_once(bundle):
    cv2 = pytest.importorskip("cv2")
    if "GStreamer:                   YES" in cv2.getBuildInformation():
        pytest.skip("this OpenCV has GStreamer")
    code, _, err = output_of(start(bundle, "run", "--wait", "--source", "csi://0"))
    assert code == 1
    assert err.splitlines()[-1].startswith("error: csi://0 needs an OpenCV with GStreamer")


@pytest.mark.parametrize("environment", [{"INVOCATION_ID": "ab" * 16}, {"NOTIFY_SOCKET": "/run/no-such-socket"}])
def test_a_service_waits_by_itself(bundle, environment):
    arguments = ("run", "--json", "--source", "/dev/video99")
    process = start(bundle, *arguments, environment=environment, stdin=subprocess.DEVNULL)
    assert next_line(process)["state"] == "lost"
    process.terminate()
    assert output_of(process)[0] == 143


@pytest.mark.parametrize(
    ("option", "environment"), [([], {}), (["--no-wait"], {"NOTIFY_SOCKET": "/run/x", "INVOCATION_ID": "ab" * 16})]
)
def test_whoever_does_not_want_to_wait_does_not(bundle, option, environment):
    code, _, err = output_of(start(bundle, "run", *option, "--source", "/dev/video99", environment=environment))
    assert code == 1
    assert err.splitlines()[-1].startswith("error: /dev/video99 is not available")


def test_a_service_that_waits_for_its_camera_is_ready_and_feeds_the_watchdog(bundle, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WAIT_S)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        process = start(bundle, "run", "--source", "/dev/video99", "--quiet", environment=environment)
        said = list(iter(lambda: systemd.recv(4096).decode().partition("\n")[0], "READY=1"))
        assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in said)
        for _ in range(3):
            while systemd.recv(4096) != b"WATCHDOG=1":
                pass
        process.terminate()
        assert output_of(process)[0] == 143


@pytest.mark.parametrize(
    "output",
    [
        ("--live", "192.0.2.77:0"),
        ("--live", "no-such-host.invalid:8080"),
        ("--uncertain", "/proc/no-such-folder"),
        ("--sink", "/proc/no-such-folder/results.jsonl"),
        ("--sink", "/proc/no-such-folder/results.csv"),
        ("--sink", "/proc/no-such-folder/video.mp4"),
    ],
)
def test_an_output_that_is_not_there_yet_stops_no_service(bundle, output):
    arguments = ("run", "--source", "test://", "--json", "--frames", "3", *output)
    code, out, err = output_of(start(bundle, *arguments, "--wait"))
    assert (code, out.count('"frame"')) == (0, 3)
    assert "not available, results are lost: " in err
    code, _, err = output_of(start(bundle, *arguments))
    assert code == 1
    assert err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("output", [("--sink", "results.txt"), ("--live", "8080x"), ("--sink", "mqtt://broker")])
def test_an_output_that_can_never_be_ends_a_service_at_once(bundle, output):
    code, _, err = output_of(start(bundle, "run", "--wait", "--source", "test://", *output))
    assert code == 1
    assert err.splitlines()[-1].startswith("error: ")


def test_a_broker_whose_name_is_not_known_yet_stops_no_service(bundle, tmp_path):
    pytest.importorskip("paho.mqtt.client")
    sink = "mqtt://no-such-broker.invalid/pets"
    arguments = ("run", "--wait", "--source", "test://", "--json", "--frames", "3", "--sink", sink)
    code, out, _ = output_of(start(bundle, *arguments, environment={"XDG_STATE_HOME": str(tmp_path)}))
    assert (code, out.count('"frame"')) == (0, 3)


def test_each_start_of_a_service_goes_on_where_the_last_one_ended(bundle, tmp_path):
    names = ("video.mp4", "video.avi", "results.jsonl", "results.csv")
    sinks = [word for name in names for word in ("--sink", str(tmp_path / name))]
    for _ in range(3):
        arguments = ("run", "--wait", "--source", "test://", "--quiet", "--frames", "3", *sinks)
        code, _, err = output_of(start(bundle, *arguments, "--uncertain", tmp_path / "kept", "--uncertain-below", "1"))
        assert code == 0, err
    videos = [f"video{number}{suffix}" for suffix in (".avi", ".mp4") for number in ("", "-2", "-3")]
    assert sorted(os.listdir(str(tmp_path))) == sorted([*videos, "kept", "results.csv", "results.jsonl"])
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 9
    rows = (tmp_path / "results.csv").read_text().splitlines()
    assert (len(rows), sum(row.startswith("frame,") for row in rows)) == (10, 1)
    wait_until(lambda: len([name for name in os.listdir(str(tmp_path / "kept")) if name.endswith(".jpg")]) == 3)
