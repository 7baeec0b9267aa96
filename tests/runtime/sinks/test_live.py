import contextlib
import json
import re
import threading
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edgeclf_runtime.__main__ import main
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.images.frame import Frame
from edgeclf_runtime.images.jpeg import MAX_SIDE, encode_jpeg
from edgeclf_runtime.results import StreamEvent, StreamResult
from edgeclf_runtime.sinks.live import answers, clients
from edgeclf_runtime.sinks.live import sink as live
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.pictures import noise
from tests.support.waiting import wait_until
from tests.support.watching import WAIT_S, ask, gray, next_picture, stuck_client

LOST = StreamEvent("lost", "the cable was pulled", 0.0)


class Picture(np.ndarray):
    """Pixels that count how often they are copied."""

    copies = 0

    def copy(self, *arguments):
        Picture.copies += 1
        return super().copy(*arguments)


@pytest.fixture(scope="module")
def result(bundle):
    with Classifier.open(bundle, "fp32") as classifier:
        return classifier.classify(noise(64, 48))


@pytest.fixture
def sink():
    with LiveSink(":0", ["3", "5", "8"], "K\u00fcche") as opened:
        yield opened


@pytest.fixture
def item(result):
    """Make a StreamResult of a gray frame: item(number)."""

    def make(number, width=64, height=48):
        image = np.full((height, width, 3), number % 256, np.uint8).view(Picture)
        return StreamResult(Frame(image, number, 1.5e9, time.monotonic(), 2.0, ""), result, 20.0, 7)

    return make


@pytest.fixture
def camera(sink, item):
    """Frames that arrive while the test runs, each with its number as the gray level; yields the list of numbers."""
    written, stop = [], threading.Event()

    def feed():
        while not stop.wait(0.005):
            written.append(len(written))
            sink.write(item(written[-1]))

    thread = threading.Thread(target=feed)
    thread.start()
    yield written
    stop.set()
    thread.join()


def state(sink):
    return json.loads(ask(sink, "/state.json").read().decode("ascii"))


def next_event(answer):
    while True:
        line = answer.readline()
        assert line, "the stream of events ended"
        if line.startswith(b"data: "):
            return json.loads(line[6:].decode("ascii"))


def test_the_state_is_the_newest_result_and_what_the_page_shows_beside_it(sink, item, result):
    for number in range(3):
        sink.write(item(number))
    found = state(sink)
    assert (found["title"], found["labels"]) == ("K\u00fcche", ["3", "5", "8"])
    assert (found["state"], found["frames"], found["dropped"]) == ("live", 3, 7)
    assert found["frames_per_s"] > 0
    assert found["result"]["frame"] == 2
    assert found["result"]["label"] == result.label
    assert found["result"]["top"] == result.to_dict()["top"]
    assert set(found["result"]["timings_ms"]) == {"capture", "preprocess", "inference", "postprocess"}


def test_a_camera_that_is_lost_is_told_until_the_next_frame(sink, item):
    assert (state(sink)["state"], state(sink)["result"]) == ("silent", None)
    sink.write(item(0))
    sink.event(LOST)
    assert (state(sink)["state"], state(sink)["reason"]) == ("lost", "the cable was pulled")
    sink.event(StreamEvent("live", "back", 0.0))
    assert (state(sink)["state"], state(sink)["reason"]) == ("live", "")
    sink.event(LOST)
    sink.write(item(1))
    assert state(sink)["state"] == "live"


@pytest.mark.parametrize(
    ("reason", "source", "shown"),
    [
        ("rtsp://user:a/b@c@host/x?pw=d sent no frame for 3.0 s", "", "rtsp://... sent no frame for 3.0 s"),
        ("rtsp://h/x?pw=d sent no frame", "rtsp://u:p@h/x?pw=d", "the camera sent no frame"),
        (
            "gst://rtspsrc location=rtsp://h user-pw=geheim ! appsink sent no frame",
            "",
            "the camera: see the program's log",
        ),
        ("gst://a user-pw=geheim ! /x sent no frame", "gst://a user-pw=geheim ! /x", "the camera sent no frame"),
        ("error in a user-pw=geheim ! /x: no", "gst://a user-pw=geheim ! /x", "error in the camera: no"),
        ("/home/me/videos/a.mp4 delivers no frames", "", "a.mp4 delivers no frames"),
        ("/dev/video0 is not there", "0", "/dev/video0 is not there"),
        ("0 sent no frame for 3.0 s", "0", "0 sent no frame for 3.0 s"),
        ("1/2 of the picture is gray", "", "1/2 of the picture is gray"),
    ],
)
def test_a_visitor_learns_of_a_loss_without_passwords_addresses_and_folders(item, reason, source, shown):
    with LiveSink(":0", [], source=source) as sink:
        sink.event(StreamEvent("lost", reason, 0.0))
        assert state(sink)["reason"] == shown


def test_a_stream_without_frames_is_called_silent(sink, item, monkeypatch):
    sink.write(item(0))
    monkeypatch.setattr(live, "SILENT_S", 0.0)
    found = state(sink)
    assert (found["state"], found["frames_per_s"]) == ("silent", 0)
    assert found["state_s"] >= 0


def test_results_and_losses_are_sent_as_events(sink, item):
    events = ask(sink, "/events")
    assert events.getheader("Content-Type") == "text/event-stream"
    assert next_event(events)["result"] is None
    sink.write(item(5))
    wait_until(lambda: (next_event(events)["result"] or {}).get("frame") == 5)
    sink.event(LOST)
    wait_until(lambda: next_event(events)["state"] == "lost")


def test_the_picture_is_a_frame_that_is_newer_than_the_question(sink, camera):
    wait_until(lambda: len(camera) > 3)
    before = len(camera)
    shade = gray(ask(sink, "/picture.jpg").read())
    assert before - 1 <= shade <= len(camera)


def test_without_a_frame_there_is_no_picture(sink, monkeypatch):
    monkeypatch.setattr(answers, "HEARTBEAT_S", 0.01)
    answer = ask(sink, "/picture.jpg")
    assert (answer.status, answer.read()) == (503, b"no frame arrived within 0.02 s\n")


def test_the_pictures_follow_each_other_without_end(sink, camera):
    answer = ask(sink, "/picture.mjpg")
    assert answer.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=picture"
    shades = [gray(next_picture(answer)) for _ in range(5)]
    assert shades == sorted(set(shades))


def test_the_last_picture_is_shown_to_who_comes_after_the_camera_was_lost(sink, item):
    first = ask(sink, "/picture.mjpg")
    wait_until(lambda: sink._watched_until)
    sink.write(item(40))
    assert gray(next_picture(first)) == 40
    assert first.readline() == b"--picture\r\n", "a browser shows a picture only when it has seen what ends it"
    assert [first.readline(), first.readline()] == [b"Content-Type: image/jpeg\r\n", b"\r\n"], (
        "Chromium, the next one's head"
    )
    sink.event(LOST)
    assert gray(next_picture(ask(sink, "/picture.mjpg"))) == 40


def test_a_picture_of_the_time_before_nobody_watched_is_not_shown(sink, item, monkeypatch):
    monkeypatch.setattr(answers, "HEARTBEAT_S", 0.01)
    with contextlib.closing(ask(sink, "/picture.mjpg")) as first:
        wait_until(lambda: sink._watched_until)
        sink.write(item(40))
        next_picture(first)
    wait_until(lambda: not sink._server.clients)
    sink._watched_until = 0
    sink.write(item(41))
    assert ask(sink, "/picture.jpg").status == 503


def test_what_nobody_watches_is_neither_copied_nor_encoded(sink, item, monkeypatch):
    monkeypatch.setattr(live, "encode_jpeg", lambda image, **options: pytest.fail("a picture was encoded"))
    Picture.copies = 0
    for number in range(100):
        sink.write(item(number))
    assert state(sink)["frames"] == 100
    assert Picture.copies == 0


def test_a_client_that_left_costs_nothing_any_more(sink, camera, monkeypatch):
    monkeypatch.setattr(live, "WATCHED_S", 0.01)
    monkeypatch.setattr(answers, "HEARTBEAT_S", 0.01)
    with contextlib.closing(ask(sink, "/picture.mjpg")) as answer:
        next_picture(answer)
    wait_until(lambda: not sink._server.clients and time.monotonic() > sink._watched_until)
    copies, seen = Picture.copies, len(camera)
    wait_until(lambda: len(camera) > seen + 20)
    assert 0 < copies == Picture.copies


def test_a_frame_is_encoded_once_for_all_clients_and_in_one_of_their_threads(sink, item, monkeypatch):
    encoded = []
    monkeypatch.setattr(live, "PICTURES_PER_S", 1e9)
    monkeypatch.setattr(
        live,
        "encode_jpeg",
        lambda image, **options: encoded.append(threading.current_thread().name) or encode_jpeg(image),
    )
    answers = [ask(sink, "/picture.mjpg") for _ in range(5)]
    wait_until(lambda: sink._watched_until)
    sink.write(item(90))
    assert [gray(next_picture(answer)) for answer in answers] == [90] * 5
    assert encoded == ["live client"]


def test_pictures_are_encoded_fifteen_times_a_second_at_most(sink, camera, monkeypatch):
    moments = []
    monkeypatch.setattr(
        live, "encode_jpeg", lambda image, **options: moments.append(time.monotonic()) or encode_jpeg(image)
    )
    answers = [ask(sink, "/picture.mjpg") for _ in range(3)]
    shades = [set() for _ in answers]

    def shared():
        for seen, answer in zip(shades, answers):
            seen.add(gray(next_picture(answer)))
        return set.intersection(*shades)

    wait_until(shared)  # clients share what is encoded
    wait_until(lambda: len(moments) > 4)
    assert min(np.diff(moments)) >= 1 / 15.0


def large(item):
    """A frame whose JPEG does not fit into a connection's buffers."""
    made = item(0, 1200, 900)
    made.frame.image[:] = noise(1200, 900)
    return made


@pytest.mark.slow
def test_a_client_that_reads_nothing_holds_up_nobody_and_then_sees_the_present(sink, item, monkeypatch):
    monkeypatch.setattr(clients, "CLIENT_TIMEOUT_S", 1000)
    with contextlib.closing(stuck_client(sink)) as stuck:
        wait_until(lambda: sink._watched_until)
        answer = ask(sink, "/picture.mjpg")
        for _ in range(6):
            sink.write(large(item))
            next_picture(answer)
        assert len(sink._server.clients) == 2
        sink.write(item(77))
        assert gray(next_picture(answer)) == 77
        stuck.settimeout(WAIT_S)
        with stuck.makefile("rb") as reader:
            while reader.readline() != b"\r\n":
                pass
            late = [gray(next_picture(reader))]
            while late[-1] != 77:
                late.append(gray(next_picture(reader)))
        assert len(late) < 4


def run_live(bundle, capsys, *options):
    """Exit code and stderr of a run whose page is open to the network."""
    command = ["run", "--source", "test://", "--frames", "1", "--quiet", "--live", "0.0.0.0:0"]
    code = main([*command, *options], str(bundle))
    return code, capsys.readouterr().err


@pytest.mark.slow
def test_a_run_prints_where_its_page_is_with_the_token_that_it_made_but_never_the_users(bundle, capsys, monkeypatch):
    code, text = run_live(bundle, capsys)
    assert code == 0
    assert re.search(r"live page: http://[^/]+:[0-9]+/\?token=[A-Za-z0-9_-]{24}\n", text)
    monkeypatch.setenv("EDGECLF_LIVE_TOKEN", "geheim-geheim-geheim")
    code, text = run_live(bundle, capsys, "--live-name", "cam.example.com")
    assert (code, "geheim" in text) == (0, False)
    assert re.search(r"live page: http://[^/]+:[0-9]+/\n", text)
    code, text = run_live(bundle, capsys, "--live-open")
    assert code == 1
    assert "error: --live-open shows the page without a token, but EDGECLF_LIVE_TOKEN sets one" in text


def test_closing_ends_every_client_and_leaves_no_thread_and_no_port(item, new_threads):
    sink = LiveSink(":0", [])
    streams = [ask(sink, path) for path in ("/picture.mjpg", "/events", "/picture.mjpg")]
    with contextlib.closing(stuck_client(sink)):
        wait_until(lambda: len(sink._server.clients) == 4)
        wait_until(lambda: sink._watched_until)
        sink.write(large(item))
        for answer in streams[0], streams[2]:
            next_picture(answer)
        sink.close()
        sink.close()
        wait_until(lambda: not new_threads())
    for answer in streams:
        answer.read()
    sink.write(item(1))
    LiveSink(str(urlsplit(sink.url).port), []).close()


def test_a_large_picture_is_shrunk():
    shapes = [(720, 1280, 3), (2160, 3840, 3), (5000, 100, 3), (3000, 1, 3)]
    jpegs = [np.frombuffer(encode_jpeg(np.zeros(shape, np.uint8), most_side=MAX_SIDE), np.uint8) for shape in shapes]
    shrunk = [cv2.imdecode(jpeg, cv2.IMREAD_COLOR).shape for jpeg in jpegs]
    assert shrunk == [(720, 1280, 3), (720, 1280, 3), (1280, 26, 3), (1280, 1, 3)]
