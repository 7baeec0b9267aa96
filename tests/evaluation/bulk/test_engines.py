"""Whole programs whose processes are killed: nothing is lost, nothing is repeated, and every engine writes the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeclf.evaluation.bulk.unfinished import Unfinished

WAIT_S = 120
SMALL_PARTS = """
import sys
from edgeclf.cli import app
from edgeclf.evaluation.bulk import unfinished
unfinished.IMAGES_OF_A_PART = 10
app(sys.argv[1:])
"""
pytestmark = pytest.mark.slow


@pytest.fixture
def predict(model, digits, tmp_path):
    """Start a command that writes an output of 18 parts by two processes: predict(NAME, *OPTIONS)."""
    started = []

    def start(name, *options):
        arguments = ["predict", model, digits, "--workers", "2", "--output", tmp_path / name, "--json", *options]
        command = [sys.executable, "-c", SMALL_PARTS, *map(str, arguments)]
        # A session of its own, as a shell's job has; processes of the parts have others.
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def report(process):
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    return json.loads(out)


def wait_for_parts(folder, count):
    end = time.monotonic() + WAIT_S
    while len(list(folder.path.glob("0*.jsonl"))) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def descendants(pid):
    """The processes that a process has started, and theirs."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            yield int(child)
            yield from descendants(int(child))


def test_killed_processes_and_a_killed_command_lose_nothing_and_repeat_nothing(predict, tmp_path):
    assert report(predict("whole.csv"))["images"] == 180
    process, folder = predict("all.csv"), Unfinished.of(tmp_path / "all.csv")
    wait_for_parts(folder, 2)
    for child in descendants(process.pid):
        os.kill(child, signal.SIGKILL)
    wait_for_parts(folder, len(folder.done()) + 2)
    workers = list(descendants(process.pid))
    assert len(workers) == 2
    process.kill()
    process.wait()
    end = time.monotonic() + WAIT_S
    while any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.01)
    kept = len(folder.done())
    assert 0 < kept < 18
    assert report(predict("all.csv", "--resume"))["resumed"] == 10 * kept
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(predict, tmp_path):
    process, folder = predict("all.csv"), Unfinished.of(tmp_path / "all.csv")
    wait_for_parts(folder, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert (
        f"all.csv.unfinished keeps {len(folder.done())} of 18 parts; the same command with --resume continues it" in err
    )
    assert "Traceback" not in err


# Not imported here: it would read its settings.
NO_RAY = pytest.mark.skipif(
    find_spec("ray") is None, reason='Ray is not installed (python3 -m pip install "edgeclf[ray]")'
)


@NO_RAY
def test_ray_writes_the_same_bytes_though_its_processes_are_killed(predict, tmp_path):
    assert report(predict("whole.csv"))["images"] == 180
    process, folder = predict("all.csv", "--engine", "ray"), Unfinished.of(tmp_path / "all.csv")
    wait_for_parts(folder, 2)
    killed = 0
    for child in descendants(process.pid):
        if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"ray::_classify"):
            os.kill(child, signal.SIGKILL)
            killed += 1
    assert report(process)["engine"] == "ray"
    assert killed
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@NO_RAY
def test_ray_is_reached_from_this_machine_only(tmp_path):
    from edgeclf.evaluation.bulk.ray_engine import _session

    with _session(1):
        sockets = {os.readlink(path) for pid in (os.getpid(), *descendants(os.getpid())) for path in files_of(pid)}
        lines = [
            line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        ]
        own = [line for line in lines if f"socket:[{line[9]}]" in sockets]
        assert own
        # Its own address, and the other end's, which is 0 for a socket that listens.
        assert all(line[1].partition(":")[0].endswith("0100007F") for line in own)


def files_of(pid):
    for path in Path(f"/proc/{pid}/fd").iterdir():
        if path.is_symlink():
            yield path
