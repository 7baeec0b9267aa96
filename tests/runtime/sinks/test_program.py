"""A program gets each event on its standard input, without a shell, and can hold up nothing."""

import json
import os
import stat
import sys
import time

import pytest

from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.sinks.actions import program
from edgeclf_runtime.sinks.actions.program import ProgramSink
from tests.support.results import came, result, went
from tests.support.waiting import wait_until

SAVE = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def python(code, *arguments):
    return [sys.executable, ["-c", code, *map(str, arguments)]]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def test_each_event_is_a_line_on_stdin_and_arguments_are_passed_as_they_are(tmp_path):
    path = tmp_path / "$HOME; echo 'a b'"
    with ProgramSink(*python(SAVE, path)) as sink:
        sink.write(result(0))
        sink.label_event(came(3, label="T\u00fcr"))
        sink.label_event(went(3))
    assert lines(path) == [came(3, label="T\u00fcr").to_dict(), went(3).to_dict()]
    assert sink.lost == 0


def test_a_program_that_reads_nothing_and_prints_much_is_no_failure(capfd):
    with ProgramSink(*python("print('hello ' * 30000)")) as sink:
        sink.label_event(came())
    out, err = capfd.readouterr()
    assert (sink.lost, out, err.count("hello")) == (0, "", 30000)


def test_a_program_that_fails_is_logged_once_and_counted(caplog):
    with ProgramSink(*python("raise SystemExit(3)")) as sink:
        sink.label_event(came())
        sink.label_event(went())
    assert sink.losses == {"its exit code is 3": 2}
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "an event is lost: its exit code is 3"
    ]


def test_a_program_that_takes_too_long_is_killed_with_what_it_started(tmp_path):
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[1] + '~', 'w').write('%d %d' % (os.getpid(), child.pid))\n"
        "os.rename(sys.argv[1] + '~', sys.argv[1])\n"
        "time.sleep(600)\n"
    )
    sink = ProgramSink(*python(code, tmp_path / "pids"), timeout_s=2.0)
    sink.label_event(came())
    wait_until(lambda: sink.lost == 1)
    sink.close()
    assert sink.losses == {"it took longer than 2 s": 1}
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        wait_until(lambda pid=pid: not alive(pid))


def test_an_end_does_not_wait_for_a_program_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "CLOSE_S", 0.2)
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    sink = ProgramSink(*python(code, tmp_path / "pid"))
    sink.label_event(came())
    sink.label_event(went())
    wait_until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
    start = time.monotonic()
    sink.close()
    assert time.monotonic() - start < 10
    assert sink.losses == {"the run ended first": 2}
    assert not alive(int((tmp_path / "pid").read_text()))


def test_events_that_come_too_fast_are_lost_and_a_live_stream_does_not_wait(monkeypatch):
    monkeypatch.setattr(program, "QUEUE_EVENTS", 2)
    sink = ProgramSink(*python("import time; time.sleep(600)"))
    for _ in range(10):
        sink.label_event(came())
    assert sink.losses["events come faster than the program handles them"] >= 7
    monkeypatch.setattr(program, "CLOSE_S", 0.1)
    sink.close()


def test_a_program_gets_no_passwords(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGECLF_MQTT_PASSWORD", "geheim")
    monkeypatch.setenv("EDGECLF_WEBHOOK_SECRET", "geheim")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    code = "import os, sys; open(sys.argv[1], 'w').write(repr(dict(os.environ)))"
    with ProgramSink(*python(code, tmp_path / "environment")) as sink:
        sink.label_event(came())
    text = (tmp_path / "environment").read_text()
    assert "PATH" in text
    assert "geheim" not in text


def test_a_program_that_is_not_there_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    for name, words in (
        ("no-such-program", "is not on PATH"),
        ("mine", "is not on PATH"),  # the working folder is not searched
        ("./other", "is not there"),
        ("./mine", "may not be executed"),
    ):
        with pytest.raises(OutputError, match=words + ": give the path of a program"):
            ProgramSink(name)
    (tmp_path / "mine").chmod(stat.S_IRWXU)
    ProgramSink("./mine").close()
