import subprocess
import threading

import pytest

from edgeclf_runtime.errors import OutputError, Unavailable
from edgeclf_runtime.results import StreamEvent
from edgeclf_runtime.sinks import late_sink, open_sink
from edgeclf_runtime.sinks.base import Sink
from edgeclf_runtime.sinks.late_sink import open_late
from edgeclf_runtime.sinks.uncertain_frames import UncertainSink
from tests.support.results import LOST, result
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Shorter pauses, for shorter tests."""
    monkeypatch.setattr(late_sink, "RETRY_S", 0.02)


class Page(Sink):
    """Keeps what it is given."""

    def __init__(self):
        self.told = []

    def write(self, item):
        self.told.append(item.frame.number)

    def event(self, event):
        self.told.append(event.state)

    def close(self):
        self.told.append("closed")


def appearing(page, there, error):
    """A function that opens a page once it is available."""

    def open_():
        if not there.is_set():
            raise error
        return page

    return open_


def test_a_sink_that_is_there_is_the_sink_itself():
    page = Page()
    assert open_late("the page", lambda: page) is page


def test_a_sink_that_can_never_be_opened_is_an_error():
    with pytest.raises(OutputError, match="wrong"):
        open_late("the page", appearing(Page(), threading.Event(), OutputError("wrong")))


def test_a_sink_that_comes_later_gets_what_comes_later_and_knows_that_the_camera_is_lost(caplog):
    page, there = Page(), threading.Event()
    with open_late("the page", appearing(page, there, Unavailable("no network"))) as sink:
        sink.write(result(0))
        sink.event(LOST)
        sink.write(result(1))
        there.set()
        wait_until(lambda: page.told)
        wait_until(lambda: sink._sink)
        sink.write(result(2))
    assert page.told == ["lost", 2, "closed"]
    assert sink.lost == 2
    assert caplog.messages == [
        "the page: not available, results are lost: no network",
        "the page: is available; 2 results were lost",
    ]


def test_a_sink_that_comes_later_learns_of_everything_that_holds():
    page, there = Page(), threading.Event()
    with open_late("the page", appearing(page, there, Unavailable("no network"))) as sink:
        for state in ("degraded", "changed", "lost", "normal", "live"):
            sink.event(StreamEvent(state, "a reason", 0.0))
        there.set()
        wait_until(lambda: sink._sink)
    assert page.told == ["degraded", "normal", "live", "closed"]


def test_a_sink_that_never_comes_is_closed_at_once(caplog):
    with open_late("the page", appearing(Page(), threading.Event(), Unavailable("no network"))) as sink:
        sink.write(result())
    assert sink.lost == 1
    assert not any(thread.name == "late sink" for thread in threading.enumerate())


@pytest.mark.parametrize("name", ["kept", "results.jsonl", "results.csv", "video.mp4"])
def test_a_disk_that_can_be_written_later_gets_results_later(small_disk, name):
    folder = small_disk("80m")
    path = folder / name
    subprocess.check_call(["mount", "-o", "remount,ro", str(folder)])

    def open_():
        return open_sink(path) if path.suffix else UncertainSink(path, below=1.0, every_s=0)

    with open_late(str(path), open_) as sink:
        sink.write(result(0))
        subprocess.check_call(["mount", "-o", "remount,rw", str(folder)])
        wait_until(lambda: sink._sink)
        sink.write(result(1))
    assert sink.lost == 1
    assert path.exists()
