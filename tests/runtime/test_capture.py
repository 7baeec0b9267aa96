import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgeclf_runtime.capture import CaptureProcess
from edgeclf_runtime.capture_main import SLOTS, Slots
from edgeclf_runtime.errors import CameraError, CameraLost
from edgeclf_runtime.sources import Source, generated_picture

TEST = Source("test", "", "a test", width=64, height=48, fps=200)


def picture(number):
    out = np.empty((48, 64, 3), np.uint8)
    generated_picture(number, out)
    return out


def child(camera):
    """The id of the capture process."""
    return camera._process.pid


def read_on(camera):
    while True:
        camera.read()


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def camera():
    with CaptureProcess(TEST) as camera:
        yield camera.wait_opened()


def test_frames_arrive_as_they_were_captured(camera):
    for _ in range(20):
        frame = camera.read()
        assert np.array_equal(frame.image, picture(frame.number))


def test_as_few_slots_are_used_as_can_be():
    slots = Slots(latest=True, send=lambda message: None)
    used = []
    for _ in range(20):
        used.append(slots.take())
        slots.fill(used[-1], {})
    assert set(used) == {0, 1}


def test_no_frame_in_time_is_none():
    with CaptureProcess(TEST._replace(fault="hang")) as camera:
        camera.wait_opened()
        assert camera.read(0.05) is None
        assert camera.read(0.05) is None


def test_what_was_not_fetched_is_dropped_and_counted(camera):
    first = camera.read().number
    wait_for(lambda: time.sleep(0.05) or camera.read().number > first + 20)
    frame = camera.read()
    assert camera.dropped > 0
    assert frame.age_ms < 1000


def test_a_frame_that_is_held_keeps_its_picture(camera):
    held = [camera.read() for _ in range(3 * SLOTS)]
    for _ in range(3 * SLOTS):
        camera.read()
    for frame in held:
        assert np.array_equal(frame.image, picture(frame.number))


def test_a_part_of_a_picture_holds_it_too(camera):
    part = camera.read()
    number, part = part.number, part.image[10:20, 10:20]
    for _ in range(3 * SLOTS):
        camera.read()
    assert np.array_equal(part, picture(number)[10:20, 10:20])


def generated_pictures_are_not_copied_while_few_are_held(camera):
    for _ in range(3 * SLOTS):
        frame = camera.read()
        assert not frame.image.flags.owndata
        assert frame.image.base.base is not None
        del frame


def test_a_process_that_dies_is_a_lost_camera_that_says_how(camera):
    camera.read()
    os.kill(child(camera), signal.SIGSEGV)
    with pytest.raises(CameraLost, match="the capture process ended by signal 11"):
        read_on(camera)


def test_a_process_that_cannot_open_its_source_is_an_error():
    with pytest.raises(CameraError, match=r"nothing\.avi") as caught:
        CaptureProcess(Source("file", "nothing.avi", "nothing.avi")).wait_opened()
    assert not isinstance(caught.value, CameraLost)


def test_closing_ends_a_process_that_hangs_and_leaves_nothing():
    before = sorted(os.listdir("/proc/self/fd"))
    camera = CaptureProcess(TEST._replace(fault="hang", after=1)).wait_opened()
    camera.read()
    process = camera._process
    camera.close()
    assert process.poll() is not None
    camera.close()
    with pytest.raises(CameraError, match="was closed"):
        camera.read()
    del camera
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_process_ends_with_its_parent(tmp_path):
    code = (
        "import os, signal; from edgeclf_runtime.camera import open_camera; camera = open_camera('test://'); "
        "camera.read(); print(camera._capture._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    pid = int(parent.communicate(timeout=60)[0])
    # One that has ended may stay in the list until whoever inherited it looks.
    status = Path(f"/proc/{pid}/status")
    wait_for(lambda: not status.exists() or "State:\tZ" in status.read_text())


def test_no_password_is_in_the_list_of_processes():
    secret = Source("network", "rtsp://user:secret@127.0.0.1:1/x", "rtsp://127.0.0.1:1/x", address=["127.0.0.1", 1])
    with CaptureProcess(secret) as camera, open(f"/proc/{child(camera)}/cmdline") as stream:
        assert "secret" not in stream.read()
