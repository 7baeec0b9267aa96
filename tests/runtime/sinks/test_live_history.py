"""The state and the latest events of a stream, for programs that ask the live page's server."""

import json
import time

import pytest

from edgeclf_runtime.results import Origin, StreamEvent
from edgeclf_runtime.sinks.live.history import MOST_EVENTS, SLOT_S, SLOTS, Band
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.pictures import noise
from tests.support.results import came, result, went
from tests.support.watching import ask

SECRET = "rtsp://10.0.0.7/secret"
ORIGIN = Origin("0123456789ab", SECRET, "line 4", "door")


@pytest.fixture
def sink():
    with LiveSink(":0", ["cat", "dog"], source=SECRET) as opened:
        yield opened


def get(sink, path):
    answer = ask(sink, path)
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/json")
    text = answer.read().decode("ascii")
    assert "10.0.0.7" not in text
    return json.loads(text)


def test_the_state_for_programs_is_the_pages(sink):
    assert get(sink, "/v1/state")["result"] is None
    sink.write(result(7)._replace(origin=ORIGIN))
    sink.event(StreamEvent("lost", SECRET + " sent no frame", 5.0, ORIGIN))
    found, pages = get(sink, "/v1/state"), get(sink, "/state.json")
    assert found.pop("state_s") <= pages.pop("state_s")
    assert found == pages
    assert (found["state"], found["reason"], found["result"]["frame"]) == ("lost", "the camera sent no frame", 7)
    assert (found["labels"], found["frames"], found["events"]) == (["cat", "dog"], 1, 1)


def test_events_of_labels_and_of_the_stream_are_kept_in_their_order_without_the_cameras_address(sink):
    assert get(sink, "/v1/events")["events"] == []
    start, end = came(3)._replace(origin=ORIGIN), went(3)._replace(origin=ORIGIN)
    sink.label_event(start)
    sink.event(StreamEvent("lost", SECRET + " sent no frame", 5.0, ORIGIN))
    sink.label_event(end)
    about = {"bundle": "0123456789ab", "device": "line 4", "camera": "door"}
    lines = [came(3).to_dict(), {"state": "lost", "reason": "the camera sent no frame", "at": 5.0}, went(3).to_dict()]
    expected = [dict(line, number=number + 1, **about) for number, line in enumerate(lines)]
    found = get(sink, "/v1/events")
    assert found["events"] == expected
    assert abs(found["now"] - time.time()) < 60


def test_only_the_latest_events_are_kept_and_never_their_pictures(sink):
    for number in range(MOST_EVENTS + 10):
        sink.label_event(came(number, image=noise(64, 48)))
    events = get(sink, "/v1/events")["events"]
    assert [event["number"] for event in events] == list(range(11, MOST_EVENTS + 11))
    assert get(sink, "/v1/state")["events"] == MOST_EVENTS + 10
    assert not [
        value for event in sink._history.events for value in event.values() if not isinstance(value, (str, int, float))
    ]


def test_an_event_of_a_label_is_news_for_the_page(sink):
    before = sink.wait(-1, 0, lambda: False)
    sink.label_event(came())
    assert sink.wait(before, 10, lambda: False) == before + 1


def runs(*pairs):
    return [{"label": label, "slots": slots} for label, slots in pairs]


def test_the_band_has_the_most_frequent_label_of_each_slot_and_none_without_results():
    band = Band()
    assert band.runs(5e4) == runs((None, SLOTS))
    for slot, labels in ((0, "aab"), (1, "a"), (2, "bab"), (5, "b")):
        for label in labels:
            band.take(label, (1000 + slot) * SLOT_S)
    assert band.runs(1005 * SLOT_S) == runs((None, SLOTS - 6), ("a", 2), ("b", 1), (None, 2), ("b", 1))
    assert band.runs((1005 + SLOTS) * SLOT_S) == runs((None, SLOTS))


def test_the_band_takes_no_more_memory_after_an_hour_of_flicker():
    band = Band()
    for number in range(4 * SLOTS):
        band.take("ab"[number % 2], number * SLOT_S)
    assert len(band._past) == SLOTS
    assert band.runs((4 * SLOTS - 1) * SLOT_S) == runs(*[("a", 1), ("b", 1)] * (SLOTS // 2))


def test_the_labels_of_the_last_hour_are_answered(sink):
    sink.write(result(0, "dog"))
    found = get(sink, "/v1/labels")
    assert found["slot_s"] == SLOT_S
    assert "dog" in [run["label"] for run in found["runs"]]
    assert sum(run["slots"] for run in found["runs"]) == SLOTS
