"""The live page's metrics and health, for programs that watch the device."""

import re
import time

import numpy as np
import pytest

from edgeclf_runtime.images.frame import Frame
from edgeclf_runtime.results import Origin, Result, StreamEvent, StreamResult
from edgeclf_runtime.sinks.live import sink as live
from edgeclf_runtime.sinks.live.access import Access
from edgeclf_runtime.sinks.live.metrics import AGES_S
from edgeclf_runtime.sinks.live.sink import LiveSink, camera_name
from tests.support.attackers import say
from tests.support.posting import PNG, Desk, error, message
from tests.support.watching import ask

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\.)*",?)+)\})? (\S+)')
HOSTILE = 'a "quoted"\\\nlabel'
LOST = StreamEvent("lost", "the cable was pulled", 0.0)


@pytest.fixture
def sink():
    with LiveSink(":0", ["cat"], source="rtsp://10.0.0.7/secret/path") as opened:
        yield opened


def item(label="cat", reason="", age_ms=20.0, dropped=0):
    timings = {"preprocess": 1.0, "inference": 3.0, "postprocess": 0.5}
    result = Result(
        "unknown" if reason else label,
        0.9,
        [(label, 0.9)],
        timings,
        "int8",
        "opencv",
        None,
        bool(reason),
        label,
        reason,
    )
    frame = Frame(np.zeros((8, 8, 3), np.uint8), 0, 1.5e9, time.monotonic(), 2.0, "")
    return StreamResult(frame, result, age_ms, dropped, Origin("0123456789ab", "rtsp://10.0.0.7/secret/path"))


def metrics(sink):
    """By name and labels, the value of each sample; every one has a type, and none comes twice."""
    answer = ask(sink, "/metrics")
    assert answer.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.read().decode("utf-8")
    assert "10.0.0.7" not in text
    assert "secret" not in text
    found, kind = {}, ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            kind = line.split()[2]
        elif not line.startswith("# HELP "):
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert re.fullmatch(kind + "(_sum|_count|_bucket)?", name)
            assert (name, labels) not in found
            found[name, labels] = float(value)
    return found


def value(found, name, **labels):
    """The only sample with this name and at least these labels."""
    (one,) = [
        value
        for (other, pairs), value in found.items()
        if other == "edgeclf_" + name and all(f'{key}="{text}"' in pairs for key, text in labels.items())
    ]
    return one


def test_results_are_counted_by_label_and_by_why_they_were_rejected(sink):
    for one in (item(), item(), item(reason="distance"), item("dog", reason="confidence", dropped=5)):
        sink.write(one)
    found = metrics(sink)
    common = {"camera": "rtsp", "bundle": "0123456789ab", "model": "int8"}
    assert value(found, "results_total", label="cat", rejected="no", **common) == 2
    assert value(found, "results_total", label="cat", rejected="distance") == 1
    assert value(found, "results_total", label="dog", rejected="confidence") == 1
    assert value(found, "frames_dropped_total") == 5
    assert value(found, "last_frame_timestamp_seconds") == 1.5e9


def test_times_are_in_seconds_and_the_histogram_is_cumulative(sink):
    for age_ms in (4.0, 20.0, 20.0, 60000.0):
        sink.write(item(age_ms=age_ms))
    found = metrics(sink)
    assert value(found, "stage_seconds_count", stage="inference") == 4
    assert value(found, "stage_seconds_sum", stage="inference") == pytest.approx(0.012)
    assert value(found, "stage_seconds_sum", stage="capture") == pytest.approx(0.008)
    counts = [value(found, "result_age_seconds_bucket", le=repr(limit)) for limit in AGES_S]
    assert counts == [1, 1] + [3] * (len(AGES_S) - 2)
    assert value(found, "result_age_seconds_bucket", le="+Inf") == 4
    assert value(found, "result_age_seconds_count") == 4
    assert value(found, "result_age_seconds_sum") == pytest.approx(60.044)


def test_a_label_may_have_any_characters(sink):
    sink.write(item(HOSTILE))
    assert value(metrics(sink), "results_total", label=r"a \"quoted\"\\\nlabel") == 1


def test_what_holds_now_is_shown(sink):
    sink.write(item())
    found = metrics(sink)
    assert value(found, "camera_up") == 1
    assert value(found, "backend_degraded") == 0
    sink.event(LOST)
    sink.event(StreamEvent("degraded", "the GPU is gone", 0.0))
    sink.event(StreamEvent("changed", "it is dark", 0.0, verdicts=("dark", "moved")))
    found = metrics(sink)
    assert value(found, "camera_up") == 0
    assert value(found, "camera_losses_total") == 1
    assert value(found, "backend_degraded") == 1
    assert [value(found, "health_changed", verdict=verdict) for verdict in ("dark", "moved")] == [1, 1]


def test_posted_pictures_are_counted_by_status_and_their_stages_are_timed():
    with LiveSink(":0", ["3"], source="test://", classify=Desk().classify) as sink:
        assert value(metrics(sink), "posted_pictures_total", status="200", camera="test") == 0
        for request in (
            message(),
            message(content=PNG),
            message(content=b"text"),
            message(b"Content-Type: text/plain"),
        ):
            say(sink, request)
        found = metrics(sink)
    counts = [value(found, "posted_pictures_total", status=status) for status in ("200", "400", "415")]
    assert counts == [2, 1, 1]
    assert value(found, "posted_stage_seconds_count", model="fp32", stage="inference") == 2
    assert value(found, "posted_stage_seconds_sum", model="fp32", stage="inference") == pytest.approx(0.002)
    assert value(found, "posted_stage_seconds_sum", model="fp32", stage="decode") > 0
    assert not [name for name, _ in found if name == "edgeclf_results_total"]


def test_without_posted_pictures_there_are_no_counts_of_them(sink):
    assert error(sink, message())[0] == 403
    assert not [name for name, _ in metrics(sink) if "posted" in name]


def test_the_process_is_measured(sink):
    found = metrics(sink)
    assert found["process_cpu_seconds_total", None] > 0
    assert found["process_resident_memory_bytes", None] > 1e7


def test_health_is_an_error_while_the_camera_is_lost_or_silent(sink, monkeypatch):
    assert (ask(sink, "/healthz").status, ask(sink, "/healthz").read()) == (503, b"silent\n")
    sink.write(item())
    assert (ask(sink, "/healthz").status, ask(sink, "/healthz").read()) == (200, b"ok\n")
    sink.event(LOST)
    assert (ask(sink, "/healthz").status, ask(sink, "/healthz").read()) == (503, b"lost\n")
    sink.write(item())
    monkeypatch.setattr(live, "SILENT_S", 0.0)
    assert ask(sink, "/healthz").status == 503


def test_health_needs_no_token_and_metrics_do():
    with LiveSink("0.0.0.0:0", [], access=Access(token=b"a token of some length")) as sink:
        assert ask(sink, "/healthz").status == 503
        assert ask(sink, "/metrics").status == 401
        assert ask(sink, "/metrics", Authorization="Bearer a token of some length").status == 200
        assert ask(sink, "/healthz", Host="evil.example").status == 403


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/dev/video0", "video0"),
        ("/dev/v4l/by-id/usb-cam-index0", "usb-cam-index0"),
        ("csi://0", "csi0"),
        ("rtsp://me:word@10.0.0.7/stream", "rtsp"),
        ("gst://filesrc location=/home/me/a.mp4", "gst"),
        ("test://", "test"),
        ("/home/me/cells.avi", "cells.avi"),
        ("photos/", "photos"),
    ],
)
def test_a_cameras_name_has_no_address_and_no_folder(source, name):
    assert camera_name(source) == name
