"""Cameras that are lost in every way and come back: generated ones, and real servers on loopback."""

import logging
import re
import time

import pytest

from edgeclf_runtime.capture import reconnect
from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.errors import CameraError, CameraLost
from tests.support.cameras import Proxy, Server, has_rtsp_server

pytestmark = pytest.mark.slow


WAIT_S = 60
rtsp = pytest.param(
    "rtsp",
    marks=pytest.mark.skipif(
        not has_rtsp_server(), reason="Debian's gir1.2-gst-rtsp-server-1.0 and python3-gi are not installed"
    ),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Shorter pauses, for shorter tests."""
    monkeypatch.setattr("edgeclf_runtime.capture.reconnect.FIRST_PAUSE_S", 0.1)


def until_lost(camera):
    """Read until the camera is lost; returns why."""
    end = time.monotonic() + WAIT_S
    try:
        while time.monotonic() < end:
            camera.read(0.1)
    except CameraLost as lost:
        return str(lost)
    raise AssertionError("the camera was not lost")


def until_back(camera):
    """Read until there is a frame; returns it."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        frame = camera.read(0.1)
        if frame is not None:
            return frame
    raise AssertionError("the camera did not come back")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("hang", r"sent no frame for 0\.\d s"),
        ("die", "the capture process ended with exit status 1"),
        ("lose", "delivers no more frames"),
        ("freeze", r"has sent the same image for 0\.\d s"),
        ("resize", "the frame size changed from 64x48 to 32x24"),
    ],
)
def test_a_camera_that_misbehaves_is_lost_and_reopened(fault, reason, caplog):
    uri = f"test://?fault={fault}&after=5"
    with open_camera(uri, width=64, height=48, fps=100, timeout_s=0.5, frozen_s=0.5) as camera:
        assert camera.state == "live"
        assert re.search(reason, until_lost(camera))
        assert camera.state == "lost"
        assert camera.read(0) is None
        frame = until_back(camera)
        assert (camera.state, camera.losses) == ("live", 1)
    assert frame.number >= 5
    assert [record.levelno for record in caplog.records][:2] == [logging.WARNING] * 2
    assert f"{uri} is back" in caplog.text


def test_a_camera_that_nobody_asked_for_long_is_not_lost():
    with open_camera("test://", width=64, height=48, timeout_s=0.2) as camera:
        camera.read()
        time.sleep(0.5)
        assert camera.read().age_ms < 200


def test_pauses_double_while_a_camera_does_not_work(monkeypatch):
    monkeypatch.setattr("edgeclf_runtime.capture.reconnect.OPEN_TIMEOUT_S", 0.3)
    with open_camera("test://?fault=hang", width=64, height=48, timeout_s=0.3) as camera:
        until_lost(camera)
        starts = []
        start = camera._start
        monkeypatch.setattr(
            camera, "_start", lambda: (starts.append((camera._pause_s, time.monotonic() - camera._next_start)), start())
        )
        while len(starts) < 3:
            assert camera.read(0.05) is None
    first = reconnect.FIRST_PAUSE_S
    # The next pause, and how long after the end of this one it was started.
    assert [pause for pause, _ in starts] == [2 * first, 4 * first, 8 * first]
    assert all(late >= 0 for _, late in starts)


def test_a_clock_that_jumps_changes_nothing(monkeypatch):
    with open_camera("test://", width=64, height=48, fps=100, timeout_s=0.5, frozen_s=0.5) as camera:
        camera.read()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 1e6)
        frames = [camera.read() for _ in range(5)]
        monkeypatch.setattr(time, "time", lambda: now - 1e6)
        frames += [camera.read() for _ in range(5)]
    assert all(0 <= frame.age_ms < 10000 for frame in frames)


@pytest.mark.parametrize("kind", ["mjpeg", rtsp])
def test_a_real_camera_is_lost_and_back_after_each_kind_of_loss(kind):
    with Server(kind) as server, Proxy(server.port) as proxy, open_camera(
        server.uri(proxy.port), timeout_s=1.0
    ) as camera:
        assert camera.read().image.shape == (120, 160, 3)
        for lose, restore in (
            (server.kill, server.start),
            (server.pause, server.resume),
            (proxy.reset, lambda: None),
            (proxy.send_garbage, lambda: proxy.send_garbage(False)),
        ):
            lose()
            until_lost(camera)
            restore()
            assert until_back(camera).image.shape == (120, 160, 3)
        server.kill()
        server.size = (320, 240)
        server.start()
        until_lost(camera)
        assert until_back(camera).image.shape == (240, 320, 3)
        assert camera.losses == 5


def test_a_camera_that_is_away_for_long_is_back_soon_after_its_return():
    with Server("mjpeg") as server, open_camera(server.uri(), timeout_s=1.0) as camera:
        camera.read()
        server.kill()
        until_lost(camera)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert camera.read(0.2) is None
        starts = []
        camera._start = lambda: starts.append(1)
        server.start()
        # The process that waits for the camera also opens it: no pause, no restart.
        assert until_back(camera) is not None
        assert not starts


def test_a_camera_that_is_not_there_at_the_start_is_lost_and_waited_for(caplog):
    server = Server("mjpeg")
    with open_camera(server.uri(), wait=False) as camera:
        assert until_lost(camera).startswith(f'{server.uri()} is not available: "Connection refused": ')
        assert (camera.state, camera.losses) == ("lost", 1)
        with server:
            assert until_back(camera).number == 0
        assert (camera.state, camera.losses) == ("live", 1)
    assert f"{server.uri()} is available" in caplog.text


def test_a_server_that_is_not_there_is_an_error_at_the_start():
    with pytest.raises(
        CameraError, match='is not available: "Connection refused": the host is up, but nothing listens on port'
    ):
        open_camera(Server("mjpeg").uri())
