"""SECURITY.md's tables of connections, files and programs, compared with what the kernel sees of every command."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from tests.runtime.capture.test_gstreamer import has_gstreamer
from tests.support.brokers import Broker
from tests.support.cameras import SYSTEM_PYTHON, Server, free_port, has_rtsp_server
from tests.support.receivers import Receiver
from tests.support.system_calls import Act, trace

DOCUMENT = Path(__file__).parents[2] / "SECURITY.md"
KINDS = {
    "Connections": ("connection",),
    "Written": ("write",),
    "Read": ("read",),
    "Child processes": ("program",),
}
SINKS = ("--sink", "SINKS/it.csv", "--sink", "SINKS/it.jsonl", "--sink", "SINKS/it.mp4")
NO_RTSP = pytest.mark.skipif(not has_rtsp_server(), reason="Debian's gir1.2-gst-rtsp-server-1.0 is not installed")


class Row(NamedTuple):
    """A row of a table: patterns of what is done, and whether this machine can show it."""

    kind: str
    patterns: tuple[str, ...]
    checked: bool


def rows(heading):
    """The rows of the table below a heading: patterns in code in the first cell, "yes" or what it needs in the last."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = re.split(rf"\n##+ {heading}\n", text)[1].split("\n#")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return [Row(heading, tuple(re.findall(r"`([^`]+)`", row[0])), row[-1].strip() == "yes") for row in cells]


ROWS = [row for heading in KINDS for row in rows(heading)]


def fits(pattern, what, values):
    """Return whether a pattern covers it: a word in capitals is one of its values, * is a name's part, ** anything."""
    text = ""
    for part in re.split(r"(\*\*|\*|\b[A-Z_]{3,}\b)", pattern):
        if part in ("*", "**"):
            text += "[^/]*" if part == "*" else ".*"
        elif re.fullmatch("[A-Z_]{3,}", part):
            text += "(?:" + "|".join(map(re.escape, values.get(part, ()))) + ")" if values.get(part) else "(?!)"
        else:
            text += re.escape(part)
    return re.fullmatch(text, what, re.DOTALL) is not None


class Trace:
    """One command: what it did, and the values of the words in capitals."""

    def __init__(self, bundle, folder, arguments, python=sys.executable, status=(0,), environment=None, **values):
        for name in ("home", "tmp", "sinks", "uncertain", "snapshots"):
            (folder / name).mkdir()
        self.values = {
            "BUNDLE": [str(bundle)],
            "PYTHON": pythons(python),
            "CWD": [str(folder)],
            "TMP": [str(folder / "tmp")],
            "CACHE": [str(folder / "home/.cache/edgeclf")],
            "STATE": [str(folder / "home/.local/state/edgeclf")],
            "HOME": [str(folder / "home")],
            "SINKS": [str(folder / "sinks")],
            "UNCERTAIN": [str(folder / "uncertain")],
            "SNAPSHOTS": [str(folder / "snapshots")],
            **{name: [value] if isinstance(value, str) else value for name, value in values.items()},
        }
        shown = [re.sub(r"^[A-Z]+", lambda found: self.values[found.group()][0], str(text)) for text in arguments]
        variables = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
        variables["EDGECLF_NO_TUNE"] = "1"  # seconds for each; --tune does the same
        # The command itself is no child.
        started = Act("program", " ".join(map(str, [python, bundle, *shown])))
        self.acts = trace([python, bundle, *shown], folder, {**variables, **(environment or {})}, status) - {started}

    def unlisted(self):
        """What no row covers."""
        return sorted(act for act in self.acts if not any(self.covers(row, act) for row in ROWS))

    def covers(self, row, act):
        """Return whether a row is about it."""
        return act.kind in KINDS[row.kind] and any(fits(pattern, act.what, self.values) for pattern in row.patterns)


def pythons(python):
    """Where an interpreter and what is installed for it lie."""
    code = "import sys; print(sys.executable, sys.prefix, sys.base_prefix, *sys.path[1:], sep='\\n')"
    found = subprocess.run([python, "-I", "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
    return sorted(
        {path for path in found if path} | {str(Path(path).resolve()) for path in found if path}, reverse=True
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 16))
    for number in range(5):
        writer.write(np.full((16, 32, 3), number * 40, np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def traces(bundle, video, tmp_path_factory):
    """Each command's Trace by its name, made when it is first asked for; None where this machine lacks a program."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = None
            made[name] = MAKERS[name](bundle, tmp_path_factory.mktemp(name), video)
        return made[name]

    return get


def trace_of(*arguments, **options):
    """A maker of a Trace that needs no other program."""
    return lambda bundle, folder, video: Trace(
        bundle, folder, [*arguments], SOURCE=str(video), IMAGE=str(bundle / "golden/000.png"), **options
    )


def trace_camera(kind):
    """A maker of a Trace of a network camera, by a name and not by an address."""

    def make(bundle, folder, video):
        with Server(kind, 64, 48) as server:
            uri = server.uri().replace("127.0.0.1", "localhost")
            ends = [f"{host}:{port}" for host in ("127.0.0.1", "[::1]") for port in (server.port, 0)]
            return Trace(bundle, folder, ["run", "--frames", "2", "--source", uri], SOURCE=ends)

    return make


def trace_gstreamer(bundle, folder, video):
    """A Trace of the system's Python, whose OpenCV reads pipelines, as a Jetson's does."""
    if not has_gstreamer():
        pytest.skip("no OpenCV with GStreamer (sudo apt-get install python3-opencv gstreamer1.0-plugins-base)")
    arguments = ["run", "--frames", "3", "--source", "gst://videotestsrc is-live=true ! videoconvert"]
    return Trace(bundle, folder, arguments, SYSTEM_PYTHON)


def trace_broker(bundle, folder, video):
    (folder / "broker").mkdir()
    broker = Broker(folder / "broker")
    ends = [f"{host}:{port}" for host in ("127.0.0.1", "[::1]") for port in (broker.port, 0)]
    try:
        arguments = ["run", "--source", "SOURCE", "--sink", f"mqtt://localhost:{broker.port}/it"]
        return Trace(bundle, folder, arguments, SOURCE=str(video), BROKER=ends, LOOPBACK="127.0.0.1")
    finally:
        broker.kill()


def trace_events(bundle, folder, video):
    receiver, program = Receiver(), shutil.which("true")
    arguments = ["run", "--source", "SOURCE", "--event", "*: hold=0, min=0.1", "--when-motion"]
    actions = [
        "--snapshots",
        "SNAPSHOTS",
        "--webhook",
        receiver.url.replace("127.0.0.1", "localhost"),
        "--on-event",
        program,
    ]
    ends = [f"{host}:{port}" for host in ("127.0.0.1", "[::1]") for port in (receiver.port, 0)]
    try:
        return Trace(
            bundle,
            folder,
            [*arguments, *actions, "--on-event-arg", "x"],
            SOURCE=str(video),
            WEBHOOK=ends,
            PROGRAM=program,
        )
    finally:
        receiver.close()


def trace_live(bundle, folder, video):
    port, notify = free_port(), folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(notify))
        arguments = ["run", "--source", "test://", "--frames", "3", "--live", str(port)]
        environment = {"NOTIFY_SOCKET": str(notify)}
        ends = [f"{host}:{port}" for host in ("127.0.0.1", "[::1]")]
        return Trace(bundle, folder, arguments, environment=environment, LIVE=ends, NOTIFY_SOCKET=str(notify))


MAKERS = {
    "info": trace_of("info"),
    "selftest": trace_of("selftest", "--model", "fp32"),
    "doctor": trace_of("doctor", status=(0, 1)),
    "build": trace_of("build", status=(0, 1)),
    "classify": trace_of("classify", "IMAGE"),
    "tune": trace_of("classify", "--model", "fp32", "--tune", "IMAGE"),
    "bench": trace_of("bench", "--repeat", "3", "--warmup", "1"),
    "report": trace_of("report", "--repeat", "3", "--output", "SINKS/it.json"),
    "video": trace_of(
        "run", "--source", "SOURCE", *SINKS, "--uncertain", "UNCERTAIN", "--uncertain-below", "1", "--policy", "all"
    ),
    "events": trace_events,
    "http": trace_camera("mjpeg"),
    "rtsp": trace_camera("rtsp"),
    "gstreamer": trace_gstreamer,
    "broker": trace_broker,
    "live": trace_live,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=NO_RTSP) if name == "rtsp" else name for name in MAKERS])
def test_all_that_a_command_does_is_in_the_tables(traces, name):
    found = traces(name)
    if found is None:
        pytest.skip("a program that it needs is missing, as the test before says")
    assert found.acts
    assert found.unlisted() == []


@pytest.mark.slow
def test_every_row_of_the_tables_is_what_a_command_does_or_says_why_it_cannot_be_seen(traces):
    found = [traces(name) for name in MAKERS if name not in ("rtsp", "gstreamer")]
    if None in found:
        pytest.skip("a program that some rows need is missing, as the tests before say")
    assert len(ROWS) > 20
    seen = {row for trace in found for row in ROWS if any(trace.covers(row, act) for act in trace.acts)}
    assert [row for row in ROWS if row.checked and row not in seen] == []


def test_an_act_that_no_row_names_is_found():
    values = {"SOURCE": ["127.0.0.1:80"], "CACHE": ["/home/it/.cache/edgeclf"]}
    assert fits("connect tcp SOURCE", "connect tcp 127.0.0.1:80", values)
    assert not fits("connect tcp SOURCE", "connect tcp 203.0.113.9:80", values)
    assert not fits("connect tcp BROKER", "connect tcp 203.0.113.9:80", values)
    assert fits("CACHE/tuning/*", "/home/it/.cache/edgeclf/tuning/1.json", values)
    assert not fits("CACHE/tuning/*", "/home/it/.cache/edgeclf/tuning/a/1.json", values)
    assert not fits("CACHE/tuning/*", "/home/it/.cache/other/tuning/1.json", values)


def test_connections_files_and_programs_are_seen(tmp_path):
    code = (
        "import os, socket, subprocess\n"
        "open('a', 'w').close(); os.mkdir('b'); os.rename('a', 'b/c'); os.chdir('b'); os.remove('c')\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))\n"
        "socket.socket(socket.AF_INET6).bind(('::1', 0))\n"
        "subprocess.check_call(['true', 'it is'])\n"
    )
    acts = trace([sys.executable, "-c", code], tmp_path, {"PATH": os.environ["PATH"]})
    writes = {Act("write", str(tmp_path / name)) for name in ("a", "b", "b/c")}
    assert writes | {Act("connection", "connect udp 127.0.0.1:9"), Act("connection", "bind tcp [::1]:0")} <= acts
    assert any(act.kind == "program" and act.what.endswith("true it is") for act in acts)
