"""Pictures that programs post to the live page's server."""

import json
import os
import re
import shlex
import shutil
import subprocess
import threading

import pytest

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.results import Origin
from edgeclf_runtime.sinks.live import sink as live
from edgeclf_runtime.sinks.live.access import Access
from edgeclf_runtime.sinks.live.clients import PLACES
from edgeclf_runtime.sinks.live.posted import classify_queue
from edgeclf_runtime.sinks.live.posted.body import MAX_BODY_BYTES
from edgeclf_runtime.sinks.live.posted.classify_queue import WAITING
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.attackers import crowd, say
from tests.support.pictures import encode, noise
from tests.support.posting import JPEG, error, message, read
from tests.support.waiting import wait_until
from tests.support.watching import ask

DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "docs", "http.md")


def test_a_posted_picture_gets_the_result_that_classify_gives(bundle, tmp_path):
    (tmp_path / "it.jpg").write_bytes(JPEG)
    with Classifier.open(bundle, "fp32") as classifier:
        expected = classifier.classify(tmp_path / "it.jpg").to_dict()
        origin = Origin(classifier.bundle_id[:12], "rtsp://10.0.0.7/secret", "line 4", "door")
        with LiveSink(":0", classifier.labels, classify=classifier.classify, origin=origin) as sink:
            status, _, found = read(say(sink, message(b"Content-Type: image/jpeg")))
    assert status == 200
    assert list(found.pop("timings_ms")) == ["decode", "preprocess", "inference", "postprocess"]
    assert (found.pop("bundle"), found.pop("device")) == (classifier.bundle_id[:12], "line 4")
    expected.pop("timings_ms")
    assert found == expected


def test_other_methods_are_refused_and_the_right_one_is_named(sink):
    for method in ("GET", "HEAD"):
        answer = ask(sink, "/v1/classify", method)
        assert (answer.status, answer.getheader("Allow")) == (405, "POST")
    assert ask(sink, "/v1/classify", "PUT").status == 501


def test_pictures_are_refused_unless_they_were_asked_for():
    with LiveSink(":0", ["3"]) as sink:
        assert error(sink, message()) == (
            403,
            "posted pictures are not classified: start the program with --live-classify",
        )


@pytest.mark.parametrize("asked", [True, False])
def test_a_run_classifies_posted_pictures_only_if_it_was_asked_to(bundle, cli, photos, monkeypatch, asked):
    opened = []
    monkeypatch.setattr(live, "LiveSink", lambda *values, **more: opened.append(LiveSink(*values, **more)) or opened[0])
    options = ["--quiet", "--live", ":0", "--device-name", "line 4"] + ["--live-classify"] * asked
    assert cli("run", "--source", photos, *options)[0] == 0
    assert (opened[0].queue is not None) == asked
    if asked:
        assert opened[0].queue._origin.to_dict() == {"bundle": opened[0]._version, "device": "line 4"}


def test_a_picture_needs_the_token_and_comes_from_no_other_site(desk):
    with LiveSink(":0", ["3"], access=Access(token=b"geheim"), classify=desk.classify) as sink:
        status, head, _ = read(say(sink, message()))
        assert (status, "WWW-Authenticate: Bearer" in head) == (401, True)
        assert read(say(sink, message(b"Authorization: Bearer wrong")))[0] == 401
        assert read(say(sink, message(b"Authorization: Bearer geheim")))[0] == 200
        right = b"Authorization: Bearer geheim"
        for header in (
            b"Sec-Fetch-Site: cross-site",
            b"Sec-Fetch-Site: same-site",
            b"Origin: http://evil.example",
            b"Origin: null",
        ):
            assert error(sink, message(right, header))[0] == 403
        assert error(sink, message(right).replace(b"Host: localhost", b"Host: evil.example"))[0] == 403
    assert len(desk.shapes) == 1


def test_one_picture_is_classified_at_a_time_a_few_wait_and_others_are_refused(sink, desk):
    desk.door.clear()
    with crowd(sink, WAITING + 1, message()) as connections:
        wait_until(lambda: len(sink.queue._turns) == WAITING + 1)
        status, head, value = read(say(sink, message()))
        assert (status, value["error"]) == (503, "4 pictures are waiting: try again in 1 s")
        assert "Retry-After: 1\r\n" in head
        assert ask(sink, "/state.json").status == 200, "others are answered"
        desk.door.set()
        assert [read(connection.makefile("rb").read())[0] for connection in connections] == [200] * (WAITING + 1)
    assert desk.most_inside == 1


def test_a_picture_that_waits_too_long_is_refused(sink, desk, monkeypatch):
    monkeypatch.setattr(classify_queue, "WAIT_S", 0.05)
    desk.door.clear()
    with crowd(sink, 1, message()):
        wait_until(lambda: desk.inside)
        assert error(sink, message()) == (503, "no turn came within 0.05 s: try again in 1 s")


def test_closing_ends_the_pictures_that_wait(desk, new_threads):
    desk.door.clear()
    with LiveSink(":0", ["3"], classify=desk.classify) as sink, crowd(sink, WAITING + 1, message()):
        wait_until(lambda: len(sink.queue._turns) == WAITING + 1)
        closing = threading.Thread(target=sink.close)
        closing.start()
        wait_until(lambda: len(sink.queue._turns) == 1)
        desk.door.set()
        closing.join()
        wait_until(lambda: not new_threads())
    assert len(desk.shapes) == 1


def test_trouble_of_the_classifier_is_logged_and_not_shown(caplog):
    def classify(image):
        raise BackendError("/home/me/secret failed")

    with LiveSink(":0", ["3"], classify=classify) as sink:
        assert error(sink, message()) == (503, "the picture cannot be classified now: see the program's log")
    assert "a posted picture was not classified: /home/me/secret failed" in caplog.text


def test_the_commands_of_the_documentation_work(sink, tmp_path):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed (sudo apt-get install curl)")
    with open(DOCUMENT, encoding="utf-8") as stream:
        commands = re.findall(r"^curl .*/v1/classify$", stream.read(), re.MULTILINE)
    assert len(commands) == 2
    # Above a megabyte, curl asks whether it may send the body.
    for name, picture in (("cat.jpg", JPEG), ("large.png", encode(".png", noise(800, 600)))):
        (tmp_path / name).write_bytes(picture)
        for command in commands:
            words = shlex.split(command.replace("http://localhost:8080/", sink.url).replace("cat.jpg", name))
            answer = subprocess.check_output([*words, "--silent", "--show-error", "--fail"], cwd=str(tmp_path))
            assert json.loads(answer.decode("ascii"))["label"] == "3"


def test_who_has_the_answer_makes_room_before_who_waits_for_it(sink, desk):
    desk.door.clear()
    with crowd(sink, 1, message()) as waiting:
        wait_until(lambda: desk.inside)
        refused = message(b"Content-Type: text/plain", length=MAX_BODY_BYTES)
        with crowd(sink, PLACES - 1, refused) as others:
            assert [other.recv(12) for other in others] == [b"HTTP/1.0 415"] * len(others)
            wait_until(lambda: not any(client.unread() for client in sink._server.clients._clients))
            assert ask(sink, "/state.json").status == 200
            desk.door.set()
            assert read(waiting[0].makefile("rb").read())[0] == 200
