"""Annotated videos in a real browser, of programs that ended by themselves and of ones that were killed."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgeclf_runtime.sinks.video import VideoSink
from tests.support.results import result

ROOT = Path(__file__).parents[2]
SYSTEM = "/usr/bin/python3"  # Debian's OpenCV has GStreamer, and with it H.264
PROGRAM = """
import os, signal, sys
import numpy as np
from edgeclf_runtime.sinks.video import VideoSink
from tests.support.results import result

with VideoSink(sys.argv[1], fps=10) as sink:
    for number in range(60):
        sink.write(result(number, image=np.full((240, 320, 3), 4 * number, np.uint8)))
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""
PLAY = """
const video = document.createElement("video"), done = arguments[arguments.length - 1];
video.muted = true;
video.onerror = () => done({error: video.error.message});
video.ontimeupdate = () => video.currentTime > 0.5 && done({width: video.videoWidth, height: video.videoHeight, at: video.currentTime});
video.src = arguments[0];
document.body.append(video);
video.play().catch(error => done({error: String(error)}));
"""


@pytest.fixture
def site(tmp_path):
    """A web server of the test's folder; gives its address."""
    (tmp_path / "index.html").write_text("<!DOCTYPE html><title>videos</title>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def played(browser, site, name):
    browser.open(site)
    return browser._post(f"{browser.session}/execute/async", script=PLAY, args=[site + name])


def write(python, path, end):
    environment = dict(
        os.environ, PYTHONPATH=os.pathsep.join(entry for entry in sys.path if "site-packages" not in entry)
    )
    if python == SYSTEM:
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "deploy")])
    code = subprocess.call([python, "-c", PROGRAM, str(path), end], env=environment)
    assert code == (-9 if end == "killed" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["whole", "killed"])
def test_a_browser_plays_a_webm_video(browser, site, tmp_path, end):
    write(sys.executable, tmp_path / "video.webm", end)
    found = played(browser, site, "video.webm")
    assert (found.get("width"), found.get("height")) == (320, 240), found


@pytest.mark.slow
@pytest.mark.parametrize("end", ["whole", "killed"])
def test_a_browser_plays_an_mp4_video_where_opencv_has_an_encoder_of_h264(browser, site, tmp_path, end):
    deploy = str(ROOT / "deploy")
    command = [
        SYSTEM,
        "-c",
        "import sys; from edgeclf_runtime.sinks.movies.h264 import encoder; sys.exit(encoder() is None)",
    ]
    if subprocess.call(command, env=dict(os.environ, PYTHONPATH=deploy), stderr=subprocess.DEVNULL) != 0:
        pytest.skip(
            "no encoder of H.264: apt-get install python3-opencv gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
        )
    write(SYSTEM, tmp_path / "video.mp4", end)
    found = played(browser, site, "video.mp4")
    assert (found.get("width"), found.get("height")) == (320, 240), found


def test_a_browser_that_comes_in_the_middle_plays_what_is_there(browser, site, tmp_path):
    with VideoSink(tmp_path / "video.webm", fps=10) as sink:
        for number in range(40):
            sink.write(result(number))
        found = played(browser, site, "video.webm")
    assert (found.get("width"), found.get("height")) == (64, 48), found
