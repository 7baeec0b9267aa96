"""The configuration file of a run, read again on SIGHUP."""

import contextlib
import gc
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import weakref

import pytest

from edgeclf_runtime.commands.run import run as run_module
from edgeclf_runtime.commands.run.reload import Reload
from edgeclf_runtime.commands.run.together import Parts
from tests.runtime.commands.test_run_cameras import Told
from tests.support.waiting import WAIT_S, wait_until

FP32 = {"model": "fp32", "backend": "onnxruntime", "json": True}


class Running:
    """A run with a configuration file, and what it has printed."""

    def __init__(self, bundle, path, facts, **options):
        self.path, self.lines, self.errors = path, [], ""
        self.write(facts)
        command = [sys.executable, str(bundle), "run", "--config", str(path)]
        environment = dict(os.environ, EDGECLF_NO_TUNE="1")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options
        )
        self._readers = [threading.Thread(target=self._read_lines), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def write(self, facts):
        self.path.write_text(facts if isinstance(facts, str) else json.dumps(facts))

    def _read_lines(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line.decode("ascii")))

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors += line.decode("utf-8")

    def frames(self, name):
        return [line["frame"] for line in list(self.lines) if line.get("camera") == name and "frame" in line]

    def reload(self, facts, message):
        """Have another file read, and wait until the run says so."""
        said = self.errors.count(message)
        self.write(facts)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.errors.count(message) > said)

    def end(self):
        """Stop it, and return its exit code."""
        self.process.terminate()
        code = self.process.wait(WAIT_S)
        for reader in self._readers:
            reader.join()
        return code


@contextlib.contextmanager
def running(bundle, tmp_path, facts, **options):
    found = Running(bundle, tmp_path / "site.json", facts, **options)
    try:
        yield found
    finally:
        found.end()


def site(**cameras):
    return dict(FP32, cameras={name: dict({"source": "test://"}, **own) for name, own in cameras.items()})


READ = "configuration read again: "


@pytest.mark.slow
def test_only_what_changed_in_the_file_is_exchanged(bundle, tmp_path):
    with running(bundle, tmp_path, site(door={}, yard={}, gate={})) as run:
        wait_until(lambda: all(len(run.frames(name)) > 3 for name in ("door", "yard", "gate")))
        run.reload(site(door={}, yard={"threshold": 1.0, "top-k": 1}, cellar={}), READ)
        assert "ended: gate; changed: yard; added: cellar; 1 unchanged" in run.errors
        gone = len(run.frames("gate"))
        wait_until(lambda: len(run.frames("cellar")) > 3 and run.frames("yard") != sorted(set(run.frames("yard"))))
        assert run.frames("door") == sorted(set(run.frames("door")))  # it never began again
        last = [line for line in run.lines if line.get("camera") == "yard"][-1]
        assert (len(last["top"]), last["rejected"]) == (1, True)
        assert len(run.frames("gate")) <= gone + 1
        assert run.end() == 128 + signal.SIGTERM


INVALID = (
    ("{", "cannot be used"),
    (site(door={"treshold": 1}), "there is no cameras.door.treshold; did you mean threshold?"),
    (site(door={"event": ["wolf"]}), "wolf"),
    (site(door={"allow": ["wolf"]}), "wolf"),
    (site(door={"source": "nowhere.mp4"}), "nowhere.mp4"),
    (dict(FP32), "the message above says why"),
    (
        dict(site(door={"event": ["*"]}), webhook="https://h/", **{"webhook-ca": "no.pem"}),
        "--webhook-ca no.pem cannot be read",
    ),
    (dict(site(door={}), sink=["mqtts://h/t"], **{"mqtt-ca": "gone.pem"}), "--mqtt-ca gone.pem cannot be read"),
    (dict(site(door={"event": ["*"]}), **{"home-assistant": "ha"}), "there is no broker"),
)


@pytest.mark.slow
def test_a_file_that_is_not_valid_and_options_of_the_whole_run_change_nothing_and_that_is_said(bundle, tmp_path):
    with running(bundle, tmp_path, site(door={})) as run:
        wait_until(lambda: len(run.frames("door")) > 3)
        for facts, message in INVALID:
            run.reload(facts, "every camera goes on as before")
            assert message in run.errors
        run.reload(dict(site(door={}), threads=1, live="0"), READ + "1 unchanged")
        assert "--threads, --live changed in the configuration file" in run.errors
        before = len(run.frames("door"))
        wait_until(lambda: len(run.frames("door")) > before + 3)
        assert run.frames("door") == sorted(set(run.frames("door")))


@pytest.mark.slow
def test_an_option_of_all_cameras_changes_each(bundle, tmp_path):
    with running(bundle, tmp_path, site(door={}, yard={"threshold": 0.0})) as run:
        wait_until(lambda: len(run.frames("door")) > 3)
        run.reload(dict(site(door={}, yard={"threshold": 0.0}), threshold=1.0), READ + "changed: door; 1 unchanged")
        wait_until(lambda: run.frames("door") != sorted(set(run.frames("door"))))
        last = [line for line in run.lines if line.get("camera") == "door" and "frame" in line][-1]
        assert last["rejected"] is True


@pytest.mark.slow
def test_a_closed_terminal_ends_the_run_all_the_same(bundle, tmp_path):
    ours, theirs = pty.openpty()
    with running(bundle, tmp_path, site(door={}), stdin=theirs) as run:
        os.close(theirs)
        wait_until(lambda: len(run.frames("door")) > 3)
        os.close(ours)
        time.sleep(0.1)
        run.process.send_signal(signal.SIGHUP)
        assert run.process.wait(WAIT_S) == 128 + signal.SIGHUP


class Reloading(threading.Thread):
    """Has a run in this process read its file again, three times with another threshold, then so that it ends.

    alive   how many of the cameras and streams that the run has opened were left before the last time
    """

    def __init__(self, path, monkeypatch):
        super().__init__()
        self._path, self._opened, self._reloads, self.alive = path, [], [], 0
        monkeypatch.setattr(run_module, "_open_camera", self._noting(run_module._open_camera))
        monkeypatch.setattr(run_module, "CameraStream", self._noting(run_module.CameraStream))
        monkeypatch.setattr(
            run_module, "Reload", lambda *values: self._reloads.append(Reload(*values)) or self._reloads[0]
        )
        self.write(threshold=0.0)

    def _noting(self, make):
        def made(*values):
            found = make(*values)
            self._opened.append(weakref.ref(found))
            return found

        return made

    def write(self, **options):
        self._path.write_text(json.dumps(dict(site(door={}), quiet=True, **options)))

    def run(self):
        wait_until(lambda: self._reloads)
        try:
            for number in (1, 2, 3):
                self._reload(threshold=number / 10)
            for _ in range(100):  # threads that have ended may hold them a moment longer
                gc.collect()
                self.alive = sum(one() is not None for one in self._opened)
                if self.alive == 2:
                    break
                time.sleep(0.01)
        finally:
            self._reload(frames=1)

    def _reload(self, **options):
        opened = len(self._opened)
        self.write(**options)
        self._reloads[0].ask()
        wait_until(lambda: len(self._opened) == opened + 2)


@pytest.mark.slow
def test_a_camera_that_a_reload_has_closed_is_not_kept(cli, tmp_path, monkeypatch):
    reloading = Reloading(tmp_path / "site.json", monkeypatch)
    reloading.start()
    code, _, err = cli("run", "--config", tmp_path / "site.json")
    reloading.join()
    assert (code, err.count(READ)) == (0, 4), err
    assert reloading.alive == 2  # the present camera, and its stream


def test_a_service_that_exchanges_its_only_camera_does_not_end():
    told = Told()
    parts = Parts(told)
    parts.add("").ready("classifying")
    old = parts.add("door")
    with parts.reloading():
        old.stopping()
        parts.add("yard").status("waiting")
    said = [text.partition("\n")[0] for text in told.said]
    assert said == ["READY=1", "RELOADING=1", "STATUS=classifying; yard: waiting", "READY=1"]
    assert "STOPPING=1" not in told.said


@pytest.mark.slow
def test_a_reload_that_exchanges_every_camera_keeps_the_page_with_its_token(bundle, tmp_path):
    facts = dict(site(door={}), live="0.0.0.0:0")
    with running(bundle, tmp_path, facts) as run:
        wait_until(lambda: "live page: " in run.errors)
        (address,) = re.findall(r"live page: http://[^:]*:([0-9]+)/\?token=(\S+)", run.errors)
        for other in (dict(facts, threshold=0.5), dict(site(yard={}, cellar={}), live="0.0.0.0:0")):
            run.reload(other, READ)
            request = urllib.request.Request(f"http://127.0.0.1:{address[0]}/metrics")
            request.add_header("Authorization", "Bearer " + address[1])
            assert urllib.request.urlopen(request, timeout=WAIT_S).status == 200
        assert run.errors.count("live page: ") == 1
