"""The command run with several cameras."""

import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from edgeclf_runtime.commands.parser import make_parser
from edgeclf_runtime.commands.run.cameras import cameras_of
from edgeclf_runtime.commands.run.together import Parts, go_together
from edgeclf_runtime.device.systemd import Notifier
from edgeclf_runtime.streaming.run_loop import RunStopped
from tests.support.pictures import encode, noise

FP32 = ("--model", "fp32", "--backend", "onnxruntime")


def cameras(*words):
    return cameras_of(make_parser("pets.edge").parse_args(["run", *words]))


@pytest.fixture
def folders(tmp_path):
    """Two folders of different pictures: 5 and 9."""
    found = []
    for name, count in (("door", 5), ("yard", 9)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.png").write_bytes(encode(".png", noise(64 + number, 64)))
        found.append(tmp_path / name)
    return found


def test_each_camera_has_the_common_options_and_its_own():
    door, yard = cameras(
        *("--source", "door=rtsp://h/1", "--source", "yard=gst://a b=c", "--event", "cat", "--roi", "0,0,8,8"),
        *("--for", "yard", "--event", "dog", "--threshold", "0.8", "--no-health", "--rotation", "90"),
    )
    assert (door.camera, door.source, door.event, door.threshold, door.health) == (
        "door",
        "rtsp://h/1",
        ["cat"],
        None,
        True,
    )
    assert (yard.camera, yard.source, yard.event, yard.threshold) == ("yard", "gst://a b=c", ["dog"], 0.8)
    assert (yard.health, yard.rotation, yard.roi) == (False, 90, (0, 0, 8, 8))


def test_options_of_the_whole_output_may_come_last():
    found = make_parser("pets.edge").parse_args(
        ["run", "--source", "a=test://", "--for", "a", "--top-k", "2", "--json", "--log-level", "info"]
    )
    assert (found.json, found.log_level) == (True, "info")
    assert [vars(own) for _, own in found.own] == [{"top_k": 2}]


def test_cameras_without_a_name_get_one_and_a_single_one_none():
    assert [one.camera for one in cameras("--source", "rtsp://h/1?a=b", "--source", "csi://0")] == [
        "camera1",
        "camera2",
    ]
    assert [(one.camera, one.source) for one in cameras("--source", "rtsp://h/1?a=b")] == [("", "rtsp://h/1?a=b")]


@pytest.mark.parametrize(
    ("words", "message", "status"),
    [
        (("--source", "a=test://", "--source", "a=csi://0"), "two cameras are called 'a'", 1),
        (("--source", "a=test://", "--for", "b"), "--for 'b': there is no such camera; the names are: a", 1),
        (("--source", "test://", "--for", "b"), "the names are: none, name a source with --source NAME=URI", 1),
        (
            ("--source", "a=test://", "--for", "a", "--sink", "x.csv"),
            "--sink is not an option of one camera: give it before --for a",
            2,
        ),
        (("--source", "a=test://", "--for", "a", "--roi", "x"), "argument --roi: 'x' is not a region", 2),
        (("--source", "a=test://", "--for", "a", "--jsn"), "--jsn is not an option of one camera", 2),
        (("--source", "a=test://", "--conf", "x.json"), "argument --config: it was shortened; write it in full", 2),
        (("--source", "a=test://", "--for"), "--for '': there is no such camera", 1),
    ],
)
def test_what_cannot_be_meant_is_refused(cli, words, message, status):
    code, out, err = cli("run", *words)
    assert (code, out) == (status, "")
    assert message in err


def test_two_cameras_have_results_files_events_and_a_summary_each(cli, folders, tmp_path):
    door, yard = folders
    code, out, err = cli(
        *("run", "--source", f"door={door}", "--source", f"yard={yard}", *FP32, "--json", "--fps", "10"),
        *("--sink", tmp_path / "results.jsonl", "--for", "yard", "--threshold", "1", "--top-k", "1"),
    )
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    for name, count in (("door", 5), ("yard", 9)):
        own = [line for line in lines if line["camera"] == name]
        assert [line["frame"] for line in own] == list(range(count))
        assert {line["rejected"] for line in own} == {name == "yard"}
        assert {len(line["top"]) for line in own} == ({1} if name == "yard" else {3})
        written = (tmp_path / f"results-{name}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in written] == own
        assert f"{name}: {count} frames classified" in err


def test_one_camera_has_a_mask_and_a_wrong_one_is_reported_before_anything_is_opened(cli, folders, tmp_path):
    for path in folders[1].iterdir():
        path.write_bytes(encode(".png", noise(64, 64)))
    door, yard = (("--source", f"{path.name}={path}") for path in folders)
    (tmp_path / "mask.png").write_bytes(encode(".png", np.full((32, 32, 3), 255, np.uint8)))
    for name, code in (("mask.png", 0), ("missing.png", 1)):
        found, out, err = cli("run", *door, *yard, *FP32, "--json", "--for", "yard", "--mask", tmp_path / name)
        assert found == code
        assert bool(out) is (code == 0)
        assert ("missing.png: cannot be read" in err) is (code == 1)


def test_lines_for_people_begin_with_the_cameras_name(cli, folders):
    code, out, _ = cli("run", "--source", f"door={folders[0]}", "--source", f"yard={folders[1]}", *FP32)
    assert code == 0
    names = [line.split()[1] for line in out.splitlines()]
    assert sorted(names) == ["door:"] * 5 + ["yard:"] * 9


PRINTING = """
import threading
from edgeclf_runtime.commands.output import print_json, print_text
def work(name):
    for number in range(2000):
        (print_json if number % 2 else print_text)('{"camera": "' + name * 200 + '"}')
threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_the_lines_of_several_threads_are_whole():
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    lines = subprocess.check_output([sys.executable, "-c", PRINTING], env=environment).decode("ascii").splitlines()
    assert sorted(json.loads(line)["camera"] for line in lines) == sorted(name * 200 for name in "abcd" * 2000)


def test_an_error_of_one_camera_ends_all_with_that_error(cli, folders, tmp_path):
    door, yard = folders
    for path in yard.iterdir():
        path.write_bytes(b"no picture")
    code, _, err = cli("run", "--source", f"door={door}", "--source", f"yard={yard}", *FP32, "--quiet")
    assert code == 1
    assert "error: " in err.splitlines()[-1]


def stream(name, go):
    stopped = threading.Event()
    return SimpleNamespace(name=name, go=lambda: go(stopped), loop=SimpleNamespace(stop=stopped.set))


def wait_for_stop(stopped):
    assert stopped.wait(30)
    raise RunStopped


def test_an_interruption_stops_every_stream():
    streams = [stream(name, wait_for_stop) for name in ("a", "b")]

    def interrupt(stopped):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go_together([*streams, stream("c", interrupt)])
    assert all(one.loop.stop.__self__.is_set() for one in streams)


def test_streams_that_end_do_not_stop_the_others():
    first = threading.Event()
    go_together([stream("a", lambda stopped: first.set()), stream("b", lambda stopped: first.wait(30))])


class Told(Notifier):
    """What a service manager would be told."""

    def __init__(self):
        super().__init__({})
        self.said = []

    def _send(self, text):
        self.said.append(text)


def test_a_service_is_ready_when_each_camera_is_and_alive_while_all_are():
    told = Told()
    told._every_s = 0.0
    parts = Parts(told)
    door, yard = parts.add("door"), parts.add("yard")
    door.ready("classifying")
    assert told.said == []
    yard.ready("waiting")
    assert told.said == ["READY=1\nSTATUS=door: classifying; yard: waiting"]
    told.said.clear()
    for _ in range(3):
        door.alive()
    assert told.said == []
    yard.alive()
    assert told.said == ["WATCHDOG=1"]
    yard.stopping()
    door.alive()
    assert told.said[1:] == ["WATCHDOG=1"]
    door.stopping()
    assert told.said[-1] == "STOPPING=1"
