"""The last hour on the live page, as a real browser shows it."""

import time

import pytest

from edgeclf_runtime.results import StreamEvent
from edgeclf_runtime.sinks.live import history
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.results import came, result, went

HOSTILE = "<img src=x onerror=alert(1)> cat"
LABELS = ["cat", "dog", HOSTILE]


@pytest.fixture
def sink(browser):
    with LiveSink(":0", LABELS, "pets") as opened:
        browser.complaints()
        yield opened
        browser.open("about:blank")


def fill(sink, minutes=40):
    """An hour with each label for some minutes, and a gap."""
    now, kinds = time.monotonic(), [*LABELS, "unknown"]
    for slot in range(int(minutes * 60 / history.SLOT_S), -1, -1):
        if not 60 < slot < 80:
            sink._band.take(kinds[slot // 9 % 4], now - slot * history.SLOT_S)


def stay(number, label, ago_s, duration_s=None):
    """An event of a label that came some seconds ago, and stayed so long."""
    event = (
        came(number, label, id=str(number))
        if duration_s is None
        else went(number, duration_s, label=label, id=str(number))
    )
    return event._replace(started_at=time.time() - ago_s)


def rows(browser):
    """The lines of the events, without their times."""
    return browser.run(
        "return [...document.querySelectorAll('#stays li')].map(row => [...row.children].slice(1).map(cell => cell.innerText))"
    )


def show(browser, sink):
    sink.write(result())
    browser.open(sink.url)
    browser.wait_until("document.querySelectorAll('#kinds span').length")


def test_events_of_the_last_hour_are_listed_the_newest_first(browser, sink):
    sink.label_event(stay(0, "dog", 4000, 5.0))
    sink.label_event(stay(1, "cat", 300))
    sink.label_event(stay(1, "cat", 300, 12.4))
    sink.event(StreamEvent("lost", "the cable was pulled", time.time() - 200))
    sink.label_event(stay(2, HOSTILE, 100, 90.0))
    sink.label_event(stay(3, "unknown", 5))
    show(browser, sink)
    browser.wait_until("document.querySelectorAll('#stays li').length === 4")
    assert rows(browser) == [
        ["unknown", "is there"],
        [HOSTILE, "for 90 s, at most 90.0 %"],
        ["lost", "the cable was pulled"],
        ["cat", "for 12.4 s, at most 90.0 %"],
    ]
    sink.label_event(stay(4, "dog", 1))
    browser.wait_until("document.querySelectorAll('#stays li').length === 5")
    assert rows(browser)[0] == ["dog", "is there, at most 90.0 %"]
    assert browser.complaints() == []


def test_the_band_shows_each_label_in_its_color_and_a_gap_without_one(browser, sink):
    fill(sink)
    show(browser, sink)
    colors = "[...document.querySelectorAll('#band .label')].map(part => getComputedStyle(part).backgroundColor + part.title.split(',')[0])"
    found = browser.run(f"return {colors}")
    assert len(set(found)) == 4
    assert len({one[: one.index(")")] for one in found}) == 4
    assert "onerror" in str(found)
    widths = browser.run("return [...document.getElementById('band').children].map(part => part.offsetWidth)")
    assert sum(widths) == pytest.approx(
        browser.run("return document.getElementById('band').offsetWidth"), abs=len(widths)
    )
    # Twenty minutes before the first result, a third of the hour.
    assert widths[0] == pytest.approx(sum(widths) / 3, rel=0.05)
    assert browser.complaints() == []


def test_without_results_and_events_there_is_no_hour(browser, sink):
    browser.open(sink.url)
    browser.wait_until("document.getElementById('state').innerText.startsWith('waiting')")
    assert browser.run("return document.getElementById('band').offsetHeight") == 0


@pytest.mark.parametrize(("width", "height"), [(360, 740), (400, 800), (1024, 600), (1280, 800)])
def test_the_hour_fits_the_width(browser, sink, width, height):
    fill(sink)
    for number in range(100):
        sink.label_event(stay(number, HOSTILE * 3, 1000 - number, 3.0))
    browser.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True)
    show(browser, sink)
    browser.wait_until("document.querySelectorAll('#stays li').length === 60")
    assert browser.run("return document.documentElement.scrollWidth") == width
    assert browser.run("return document.getElementById('stays').offsetHeight") <= 240
    assert browser.run("return document.getElementById('hour').getBoundingClientRect().top") >= height - 20, (
        "below the present"
    )
    browser.devtools("Emulation.clearDeviceMetricsOverride")
