"""The service that install-service makes, under a real systemd."""

import json
import subprocess

import pytest

from edgeclf_runtime.commands.service.unit import Unit, unit_text
from tests.runtime.commands.test_service_unit import AWKWARD
from tests.support.systemd import Systemd
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
PYTHON = "/usr/bin/python3"
BUNDLE = "/srv/my 100% $pets \u00fc.edge"


@pytest.fixture(scope="module")
def systemd(bundle):
    if subprocess.call([PYTHON, "-c", "import cv2, numpy"], stderr=subprocess.DEVNULL):
        pytest.skip("the system's Python has no OpenCV (sudo apt-get install python3-opencv)")
    with Systemd(**{BUNDLE[len("/srv/") :]: bundle}) as running:
        yield running


def write(systemd, path, text):
    systemd.run(
        PYTHON, "-c", "import sys; open(sys.argv[1], 'wb').write(bytes.fromhex(sys.argv[2]))", path, text.encode().hex()
    )


def install(systemd, name, *options):
    systemd.run(PYTHON, BUNDLE, "install-service", "--name", name, *options)


def test_a_service_comes_up_without_its_camera_stops_at_once_and_starts_again(systemd):
    sink = "out put/100% $HOME ${HOME} \\x20 \u00fc.jsonl"
    install(systemd, "pets", "--source", "/dev/video99", "--sink", sink)
    assert systemd.show("pets", "ActiveState") == "active"
    assert systemd.show("pets", "StatusText").startswith("waiting for the camera: /dev/video99 is not available")
    assert systemd.run("ls", "/var/lib/edgeclf/pets/out put") == sink.partition("/")[2] + "\n"
    assert systemd.run("stat", "-c", "%U", "/var/cache/edgeclf/pets", "/var/lib/edgeclf/pets") == "edgeclf\n" * 2
    systemd.run("systemctl", "stop", "pets")
    assert (systemd.show("pets", "Result"), systemd.show("pets", "ExecMainStatus")) == ("success", "143")
    systemd.run("systemctl", "start", "pets")
    systemd.run(PYTHON, BUNDLE, "uninstall-service", "--name", "pets")
    assert systemd.call("systemctl", "cat", "pets") != 0


def test_each_start_of_a_service_records_to_a_file_of_its_own(systemd):
    install(systemd, "video", "--source", "test://", "--sink", "video.mp4", "--sink", "a.csv")
    for _ in range(2):
        wait_until(lambda: systemd.show("video", "StatusText").startswith("classifying with"))
        systemd.run("systemctl", "restart", "video")
    systemd.run("systemctl", "stop", "video")
    videos = systemd.run("ls", "/var/lib/edgeclf/video").split()
    # The folder holds what the health monitor keeps for the next start.
    assert videos[:3] == ["a.csv", "edgeclf", "video-2.mp4"]
    assert "video.mp4" in videos


def test_a_password_reaches_the_service_and_nobody_else(systemd):
    write(systemd, "/etc/cam era%", 'sec"r$t %h\n')
    systemd.run("chmod", "600", "/etc/cam era%")
    source = ("--source", "rtsp://me@127.0.0.1:9/1")
    install(systemd, "locked", *source, "--password-file", "/etc/cam era%")
    assert systemd.show("locked", "StatusText").startswith("waiting for the camera: ")
    assert "sec" not in systemd.run("systemctl", "cat", "locked")


def test_reload_reads_the_configuration_file_of_a_service_again(systemd):
    cameras = {"door": {"source": "test://"}}
    write(systemd, "/etc/my site%.json", json.dumps({"sink": ["a.jsonl"], "cameras": cameras}))
    install(systemd, "site", "--config", "/etc/my site%.json")
    wait_until(lambda: systemd.show("site", "StatusText").startswith("door: classifying with"))
    process = systemd.show("site", "MainPID")
    write(
        systemd,
        "/etc/my site%.json",
        json.dumps({"sink": ["a.jsonl"], "cameras": {**cameras, "yard": cameras["door"]}}),
    )
    systemd.run("systemctl", "reload", "site")
    wait_until(lambda: "yard: classifying with" in systemd.show("site", "StatusText"))
    assert (systemd.show("site", "ActiveState"), systemd.show("site", "MainPID")) == ("active", process)
    assert systemd.run("ls", "/var/lib/edgeclf/site").split()[:2] == ["a-door.jsonl", "a-yard.jsonl"]
    systemd.run("systemctl", "stop", "site")


def test_words_reach_a_program_as_they_are(systemd):
    program = "import sys; print(ascii(sys.argv[1:]))"
    words = list(AWKWARD)
    unit = Unit("words", (PYTHON, "-c", program, *words), "root")
    text = unit_text(unit).replace("Type=notify", "Type=oneshot\nStandardOutput=file:/run/words")
    write(systemd, "/etc/systemd/system/words.service", text.replace("Restart=always", "Restart=no"))
    systemd.run("systemctl", "daemon-reload")
    systemd.run("systemctl", "start", "words")
    assert systemd.run("cat", "/run/words") == ascii(words) + "\n"


@pytest.mark.parametrize("how", ["sleep", "hold the interpreter", "loop"])
def test_a_slow_fallback_lives_and_a_loop_that_hangs_does_not(systemd, bundle, how):
    write(systemd, "/srv/slow.py", SLOW)
    unit = Unit("slow", (PYTHON, "/srv/slow.py", how), "root", home="no")
    text = unit_text(unit).replace(
        "WatchdogSec=30", f"WatchdogSec=2\nEnvironment='PYTHONPATH={BUNDLE.replace('%', '%%')}'"
    )
    write(systemd, "/etc/systemd/system/slow.service", text.replace("Restart=always", "Restart=no"))
    systemd.run("systemctl", "daemon-reload")
    systemd.run("systemctl", "restart", "slow")
    wait_until(
        lambda: (
            systemd.show("slow", "StatusText").endswith("second on fake") or systemd.show("slow", "Result") != "success"
        )
    )
    assert systemd.show("slow", "Result") == ("watchdog" if how == "loop" else "success")
    systemd.run("systemctl", "stop", "slow")


SLOW = """
import collections, ctypes, sys, time
import numpy as np
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.streaming.run_loop import Run
from edgeclf_runtime.sinks.base import Sink

Model = collections.namedtuple("Model", "name temperature threshold")

class Slow:
    def open_next(self):
        {"sleep": time.sleep, "hold the interpreter": ctypes.PyDLL(None).sleep}[sys.argv[1]](6)
        return Model("second", 1.0, 0.0), FakeRunner([1, 0])

class Pace(Sink):
    def write(self, item):
        time.sleep(0.1)
        while sys.argv[1] == "loop":
            pass

runner = FakeRunner([1, 0], fail_after=3)
classifier = Classifier(runner, ["cat", "dog"], Preprocessing(8, 8), model="first", fallback=Slow())
Run(classifier, FakeCamera([np.zeros((48, 64, 3), np.uint8)], loop=True), [Pace()]).go()
"""
