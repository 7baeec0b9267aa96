"""Video files of programs that ended in every possible way, read by OpenCV."""

import os
import re
import signal

import cv2
import numpy as np
import pytest

from edgeclf_runtime.sinks.movies import avi, find_format
from edgeclf_runtime.sinks.movies.mp4 import Mp4
from edgeclf_runtime.sinks.movies.webm import WebM
from tests.support.pictures import noise
from tests.support.starting import WAIT_S, start

SUFFIXES = (".avi", ".mp4", ".webm")
FRAMES = 25


def play(path):
    """The shade of each frame."""
    capture = cv2.VideoCapture(str(path))
    shades = []
    ok, frame = capture.read()
    while ok:
        shades.append(int(round(frame.mean(), -1)))
        ok, frame = capture.read()
    return shades


def write(path, make, encode, finish=True, size=(64, 48), fps=25.0):
    """Write FRAMES of increasing brightness; returns where in the file each of them ends."""
    ends = []
    with open(str(path), "wb+", buffering=0) as stream:
        movie = make(stream, size, fps)
        for number in range(FRAMES):
            movie.add(encode(np.full((size[1], size[0], 3), 10 * number, np.uint8)))
            ends.append(stream.tell())
        movie.update()
        if finish:
            movie.finish()
    return ends


@pytest.fixture(params=["avi", "mp4", "webm"])
def kind(request):
    """The writer and encoder of a kind of file that the runtime writes itself."""
    from edgeclf_runtime.sinks.movies import mp4, webm

    return {"avi": (avi.Avi, avi.encode), "mp4": (Mp4, mp4.encode), "webm": (WebM, webm.encode)}[request.param]


@pytest.mark.parametrize("finish", [True, False])
@pytest.mark.parametrize("fps", [0.5, 15, 29.97, 240])
def test_every_frame_is_there_at_its_rate(tmp_path, kind, fps, finish):
    write(tmp_path / "video", *kind, fps=fps, finish=finish)
    assert play(tmp_path / "video") == [10 * number for number in range(FRAMES)]
    assert cv2.VideoCapture(str(tmp_path / "video")).get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(2, 2), (1918, 1078), (16, 3000)])
def test_frames_of_every_size_are_there(tmp_path, kind, size):
    write(tmp_path / "video", *kind, size=size)
    capture = cv2.VideoCapture(str(tmp_path / "video"))
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == size
    assert play(tmp_path / "video") == [10 * number for number in range(FRAMES)]


def test_a_file_that_ends_anywhere_plays_its_whole_frames(tmp_path, kind):
    path = tmp_path / "video"
    ends = write(path, *kind, finish=False)
    data = path.read_bytes()
    for number in range(3, FRAMES, 4):
        for beyond in (0, 5, (ends[number] - ends[number - 1]) // 2):
            path.write_bytes(data[: ends[number - 1] + beyond])
            shades = play(path)
            # Half a frame may be shown.
            assert shades[:number] == [10 * shade for shade in range(number)]
            assert len(shades) <= number + 1


def test_an_avi_file_goes_on_behind_its_first_part(tmp_path, monkeypatch):
    monkeypatch.setattr(avi, "MOST_BYTES", 8000)
    write(tmp_path / "video.avi", avi.Avi, avi.encode)
    assert (tmp_path / "video.avi").read_bytes().count(b"AVIX") > 1
    assert play(tmp_path / "video.avi") == [10 * number for number in range(FRAMES)]


def test_a_frame_that_is_all_noise_is_stored_well(kind):
    _, encode = kind
    assert len(encode(noise(640, 480))) > 50_000


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of many images, each brighter than the one before."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(120):
        cv2.imwrite(str(folder / f"{number:03d}.png"), np.full((48, 64, 3), 2 * number, np.uint8))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_a_video_of_a_program_that_was_ended_plays_up_to_its_end(bundle, images, tmp_path, suffix, number, code):
    path = tmp_path / ("video" + suffix)
    process = start(bundle, "run", "--source", images, "--sink", path, "--json", "--threads", "1")
    for _ in range(80):
        assert process.stdout.readline()
    process.send_signal(number)
    _, error = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, error.decode("utf-8")
    # Four may wait and one may be in the encoder; an H.264 encoder keeps half a second.
    assert len(play(path)) >= 80 - 14
    assert os.listdir(str(tmp_path)) == [path.name]


@pytest.mark.slow
def test_a_run_that_ends_by_itself_leaves_every_frame(bundle, images, tmp_path):
    sinks = [argument for suffix in SUFFIXES for argument in ("--sink", tmp_path / ("video" + suffix))]
    process = start(bundle, "run", "--source", images, "--quiet", "--threads", "1", *sinks)
    _, error = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, error.decode("utf-8")
    assert re.search(r"120 frames classified, 0 dropped, 0 unreadable\n", error.decode("utf-8"))
    for suffix in SUFFIXES:
        assert len(play(tmp_path / ("video" + suffix))) == 120


def test_a_suffix_without_a_format_is_none():
    assert find_format(".mov") is None
