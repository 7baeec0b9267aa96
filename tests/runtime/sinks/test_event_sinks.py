"""What sinks do with the events of labels, and with few results beside them."""

import csv
import json
import threading

import pytest

from edgeclf_runtime.errors import OutputError, Unavailable
from edgeclf_runtime.sinks import late_sink, open_sink
from edgeclf_runtime.sinks.base import Sink
from edgeclf_runtime.sinks.late_sink import open_late
from edgeclf_runtime.sinks.printer import PrintSink
from edgeclf_runtime.sinks.sparse import SparseSink
from tests.support.results import LOST, came, result, went
from tests.support.waiting import wait_until


class Listener(Sink):
    """Keeps what it gets."""

    name = "listener"

    def __init__(self):
        self.got = []

    def write(self, item):
        self.got.append(item.frame.number)

    def event(self, event):
        self.got.append(event.state)

    def label_event(self, event):
        self.got.append("end" if event.end else "start")

    def flush(self):
        self.got.append("flushed")

    def close(self):
        self.got.append("closed")


def passed_on(every_s, items, policy="latest"):
    listener = Listener()
    sink = SparseSink(listener, every_s, policy)
    for item in items:
        sink.write(item)
    return listener.got


def test_one_result_a_second_is_passed_on_by_the_time_of_the_capture():
    assert passed_on(1.0, [result(number) for number in range(35)]) == [0, 10, 20, 30]


def test_one_result_a_second_of_a_file_is_passed_on_by_its_own_time():
    items = [result(number, seconds=0) for number in range(40)]
    assert passed_on(1.0, items, "all") == [0, 15, 30]
    positions = [item._replace(frame=item.frame._replace(position_s=item.frame.number / 4)) for item in items[:10]]
    assert passed_on(1.0, positions, "all") == [0, 4, 8]


def test_every_result_is_passed_on_with_0_and_none_with_none():
    items = [result(number) for number in range(3)]
    assert passed_on(0.0, items) == [0, 1, 2]
    assert passed_on(None, items) == []


def test_a_time_that_goes_back_does_not_silence_a_sink():
    assert passed_on(1.0, [result(0, seconds=100), result(1, seconds=0), result(2, seconds=0.5)]) == [0, 1]


def test_all_events_are_passed_on_and_the_losses_are_those_of_the_sink():
    listener = Listener()
    with SparseSink(listener, None, "latest") as sink:
        sink.event(LOST)
        sink.label_event(came())
        sink.label_event(went())
        listener.lose("too fast")
        assert (sink.name, sink.losses, sink.lost) == ("listener", {"too fast": 1}, 1)
    assert listener.got == ["lost", "start", "end", "flushed", "closed"]


def test_events_are_printed_for_people_and_for_machines():
    lines = []
    for as_json in (False, True):
        PrintSink(lines.append, as_json).label_event(went(7))
    assert lines[0] == "     7  end: cat after 2.5 s, 75 frames, at most 90.0 % in frame 7"
    assert json.loads(lines[1]) == went(7).to_dict()


def test_events_are_lines_of_a_file(tmp_path):
    with open_sink(tmp_path / "e.jsonl", events=True) as sink:
        sink.label_event(came())
        sink.label_event(went())
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert lines == [came().to_dict(), went().to_dict()]


def test_a_csv_file_of_events_has_a_row_for_each_and_none_for_results(tmp_path):
    with open_sink(tmp_path / "e.csv", events=True) as sink:
        sink.write(result(0))
        sink.label_event(came(3, label="=1+1"))
        sink.label_event(went(3))
    with open(str(tmp_path / "e.csv"), newline="", encoding="utf-8") as stream:
        start, end = csv.DictReader(stream)
    assert (start["event"], start["label"], start["started_at"]) == ("start", "'=1+1", "2023-11-14T22:13:20.300Z")
    assert (start["ended_at"], start["ended_at_s"], start["reason"]) == ("", "", "")
    assert (end["event"], end["id"], end["ended_at"], end["duration_s"], end["reason"], end["best_frame"]) == (
        "end",
        "1700000000.000-1",
        "2023-11-14T22:13:22.800Z",
        "2.5",
        "left",
        "3",
    )


def test_a_csv_file_of_results_is_not_gone_on_with_for_events(tmp_path):
    open_sink(tmp_path / "r.csv").close()
    with pytest.raises(OutputError, match=r"begins with .* but 'event,id,label,.*: choose another file"):
        open_sink(tmp_path / "r.csv", events=True)


def test_events_before_a_late_sink_is_there_are_counted_as_lost(monkeypatch):
    monkeypatch.setattr(late_sink, "RETRY_S", 0.02)
    listener, there = Listener(), threading.Event()

    def open_():
        if not there.is_set():
            raise Unavailable("not yet")
        return listener

    sink = open_late("the sink", open_)
    sink.label_event(came())
    assert sink.lost == 1
    there.set()
    wait_until(lambda: sink._sink is not None)
    sink.label_event(went())
    sink.close()
    assert listener.got == ["end", "closed"]
