import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgeclf_runtime.capture import parent as capture
from edgeclf_runtime.capture.child import SLOTS, Slots
from edgeclf_runtime.capture.parent import CaptureProcess
from edgeclf_runtime.capture.readers.generated import generated_picture
from edgeclf_runtime.capture.source import Source
from edgeclf_runtime.errors import CameraError, CameraLost
from tests.support.waiting import wait_until

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


@pytest.fixture
def camera():
    with CaptureProcess(TEST) as camera:
        yield camera.wait_opened()


@pytest.mark.slow
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


@pytest.mark.slow
def test_no_frame_in_time_is_none():
    with CaptureProcess(TEST._replace(fault="hang")) as camera:
        camera.wait_opened()
        assert camera.read(0.05) is None
        assert camera.read(0.05) is None


@pytest.mark.slow
def test_what_was_not_fetched_is_dropped_and_counted(camera):
    first = camera.read().number
    wait_until(lambda: time.sleep(0.05) or camera.read().number > first + 20)
    frame = camera.read()
    assert camera.dropped > 0
    assert frame.age_ms < 1000


def test_a_frame_that_is_held_keeps_its_picture(camera):
    held = [camera.read() for _ in range(3 * SLOTS)]
    for _ in range(3 * SLOTS):
        camera.read()
    for frame in held:
        assert np.array_equal(frame.image, picture(frame.number))


@pytest.mark.slow
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


@pytest.mark.slow
def test_closing_ends_a_process_that_hangs_and_leaves_nothing():
    before = set(os.listdir("/proc/self/fd"))
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
    assert set(os.listdir("/proc/self/fd")) <= before


@pytest.mark.slow
def test_a_camera_that_is_dropped_without_being_closed_ends_its_process():
    camera = CaptureProcess(TEST).wait_opened()
    camera.read()
    process = camera._process
    del camera
    gc.collect()
    assert process.poll() == 0


@pytest.mark.slow
def test_the_process_ends_with_its_parent(tmp_path):
    code = (
        "import os, signal; from edgeclf_runtime.capture.open_camera import open_camera; camera = open_camera('test://'); "
        "camera.read(); print(camera._capture._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    pid = int(parent.communicate(timeout=60)[0])
    # An ended process stays in the list until its new parent reaps it.
    status = Path(f"/proc/{pid}/status")
    wait_until(lambda: not status.exists() or "State:\tZ" in status.read_text())


@pytest.mark.slow
def test_no_password_is_in_the_list_of_processes():
    secret = Source("network", "rtsp://user:secret@127.0.0.1:1/x", "rtsp://127.0.0.1:1/x", address=["127.0.0.1", 1])
    with CaptureProcess(secret) as camera, open(f"/proc/{child(camera)}/cmdline") as stream:
        assert "secret" not in stream.read()


OPENED = b'{"opened": true, "rate": null, "confined": []}\n'
FACTS = {
    "frame": 0,
    "shape": [48, 64, 3],
    "number": 0,
    "dropped": 0,
    "captured": 1.0,
    "captured_at": 1.0,
    "capture_ms": 1.0,
}
FAKE = """
import os, socket, sys, time
link = socket.socket(fileno=int(sys.argv[1]))
link.recv(65536)
os.ftruncate(int(sys.argv[2]), int(sys.argv[3]))
try:
    while True:
        link.sendall(bytes.fromhex(sys.argv[4]))
        if sys.argv[5] == "once":
            time.sleep(600)
except OSError:
    time.sleep(600)
"""


def told(**facts):
    """A frame's message with some facts changed."""
    return OPENED + json.dumps(dict(FACTS, **facts)).encode() + b"\n"


@pytest.fixture
def liar(monkeypatch):
    """Make a capture process that sends what a test wants: liar(bytes, memory=..., times="once")."""

    def make(said, memory=SLOTS * 48 * 64 * 3, times="once"):
        def start(module, link, frames, **options):
            arguments = [str(link), str(frames), str(memory), said.hex(), times]
            return subprocess.Popen([sys.executable, "-c", FAKE, *arguments], pass_fds=(link, frames), **options)

        monkeypatch.setattr(capture, "start_child", start)
        return CaptureProcess(TEST)

    return make


LIES = {
    "no json": b"garbage\n",
    "bytes": b"\xff\xfe\n",
    "a list": b"[1]\n",
    "a number": b"7\n",
    "deep": b"[" * 10000 + b"\n",
    "nothing": b"{}\n",
    "two kinds": b'{"opened": true, "end": "x"}\n',
    "a reason of no text": b'{"error": ["x"]}\n',
    "opened twice": OPENED + OPENED,
    "waiting after it was opened": OPENED + b'{"waiting": "x"}\n',
    "a third decoder": b'{"decoder": "x"}\n' * 3,
    "a decoder after it was opened": OPENED + b'{"decoder": "x"}\n',
    "a decoder of no text": b'{"decoder": 7}\n',
    "an unfit decoder of no text": b'{"unfit": []}\n',
    "a rate of no number": b'{"opened": true, "rate": "1"}\n',
    "a mode of no text": b'{"opened": true, "rate": null, "granted": 7}\n',
    "as asked and more": b'{"opened": true, "rate": null, "as_asked": 1}\n',
    "a failure of no text": b'{"failed": 7}\n',
    "a probe of no text": b'{"failed": "x", "probed": []}\n',
    "a refusal of no text": b'{"refused": null}\n',
    "an endless rate": b'{"opened": true, "rate": Infinity}\n',
    "a huge number": b'{"opened": true, "rate": 1' + b"0" * 9000 + b"}\n",
    "a frame before it was opened": json.dumps(FACTS).encode() + b"\n",
    "a slot that is not there": told(frame=SLOTS),
    "a slot below": told(frame=-1),
    "a slot of no number": told(frame="0"),
    "a slot that is true": told(frame=True),
    "no shape": told(shape=None),
    "two sides": told(shape=[48, 64]),
    "four channels": told(shape=[48, 64, 4]),
    "an empty side": told(shape=[0, 64, 3]),
    "a negative side": told(shape=[-48, -64, 3]),
    "a broken side": told(shape=[48.5, 64, 3]),
    "too many pixels": told(shape=[9000, 12000, 3]),
    "a shape beyond numbers": told(shape=[1 << 62, 1 << 62, 3]),
    "no number": told(number="one"),
    "a negative count": told(dropped=-1),
    "a time of no number": told(captured=None),
    "a time that is none": told(captured=float("nan")),
    "an endless duration": told(capture_ms=float("inf")),
}


def watched_until_it_fails(camera):
    """A camera's error, and the exit status of its process."""
    with pytest.raises(CameraError) as caught:
        read_on(camera)
    status = camera._process.poll()
    camera.close()
    return str(caught.value), status


@pytest.mark.parametrize("lie", sorted(LIES))
def test_a_capture_process_that_says_what_cannot_be_is_killed(liar, lie):
    said, status = watched_until_it_fails(liar(LIES[lie]))
    assert said.startswith("the capture process of a test sent")
    assert len(said) < 400
    assert status == -signal.SIGKILL


@pytest.mark.parametrize(
    "said", [b"x" * 1000, OPENED, b'{"waiting": "x"}\n', told()], ids=["line", "opened", "waiting", "frames"]
)
def test_a_capture_process_that_never_stops_talking_is_killed(liar, said):
    assert watched_until_it_fails(liar(said, times="for ever"))[1] == -signal.SIGKILL


def test_a_frame_that_memory_does_not_hold_is_no_bus_error(liar):
    said, status = watched_until_it_fails(liar(told(), memory=1000))
    assert "the frame memory holds 1000 bytes, 55296 were expected" in said
    assert status == -signal.SIGKILL


def test_the_frames_memory_cannot_be_shortened_once_it_is_read(camera):
    camera.read()
    if not camera._memory.sealable:
        pytest.skip("this kernel or C library has no memfd")
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(camera._memory.fileno(), size)


@pytest.mark.slow
def test_what_a_capture_process_says_is_one_short_line(liar):
    said, _ = watched_until_it_fails(liar(json.dumps({"error": "a\nb\x1b[31m\u2028" + "c" * 9000}).encode() + b"\n"))
    assert said.startswith("a b [31m ccc")
    assert len(said) == 2000


def test_a_password_in_the_environment_is_not_the_decoders(monkeypatch):
    monkeypatch.setenv("EDGECLF_MQTT_PASSWORD", "secret")
    monkeypatch.setenv("OPENCV_FFMPEG_DEBUG", "0")
    with CaptureProcess(TEST) as camera, open(f"/proc/{child(camera)}/environ") as stream:
        found = camera.wait_opened() and stream.read()
    assert "secret" not in found
    assert "OPENCV_FFMPEG_DEBUG=0" in found


@pytest.mark.slow
def test_a_camera_says_what_its_decoders_gave_up(camera):
    assert camera.confined[:1] == ["limits"]


def test_closing_asks_before_it_kills(camera):
    camera.read()
    camera.close()
    assert camera._process.poll() == 0


@pytest.mark.slow
def test_closing_kills_what_was_stopped(camera):
    os.kill(child(camera), signal.SIGSTOP)
    camera.close()
    assert camera._process.poll() == -signal.SIGKILL
