"""The page of all cameras, as a real browser shows it."""

import pytest

from edgeclf_runtime.results import Origin, StreamEvent
from edgeclf_runtime.sinks.live.server import LivePage
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.results import result

LABELS = ["cat", "dog"]


@pytest.fixture
def cameras(browser):
    """The sinks of three cameras on one page."""
    page = LivePage(":0", several=True)
    opened = {name: LiveSink(page, LABELS, "pets", origin=Origin(camera=name)) for name in ("door", "yard", "gate-2")}
    browser.complaints()
    yield opened
    browser.open("about:blank")
    for sink in opened.values():
        sink.close()


def tiles(browser):
    """The name, the state and the label of each camera."""
    return browser.run(
        "return [...document.querySelectorAll('#cameras li')].map(tile => "
        "['name', 'state', 'label', 'trouble'].map(name => tile.querySelector('.' + name).innerText))"
    )


def open_page(browser, cameras):
    browser.open(cameras["door"]._server.url)
    browser.wait_until("document.querySelectorAll('#cameras li').length === 3")


def test_every_camera_is_shown_with_its_state_its_label_and_its_picture(browser, cameras):
    cameras["door"].write(result())
    cameras["yard"].event(StreamEvent("lost", "the cable was pulled", 0.0))
    open_page(browser, cameras)
    door, yard, gate = tiles(browser)
    assert door[:2] + door[3:] == ["door", "live", ""]
    assert door[2] in LABELS
    assert yard[:3] == ["yard", "lost", "\u2013"]
    assert yard[3].endswith(": the cable was pulled")
    assert gate[1:] == ["silent", "\u2013", "waiting for the first frame"]
    assert "not live: yard, gate-2" in browser.run("return document.body.innerText")
    for _ in range(200):
        cameras["door"].write(result())
        if browser.run("return document.querySelector('#cameras li').classList.contains('seen')"):
            break
    else:
        pytest.fail("no picture is shown")
    assert [text for text in browser.complaints() if "503" not in text] == []  # a camera without a frame has no picture


def test_a_camera_leads_to_its_own_page_and_back(browser, cameras):
    cameras["yard"].write(result())
    open_page(browser, cameras)
    browser.run("document.querySelectorAll('#cameras a')[1].click()")
    browser.wait_until(
        "document.getElementById('title') && document.getElementById('title').innerText.includes('yard')"
    )
    assert browser.run("return location.pathname") == "/camera/yard/"
    browser.wait_until("!document.getElementById('all').hidden")
    browser.run("document.getElementById('all').click()")
    browser.wait_until("document.querySelectorAll('#cameras li').length === 3")
    assert browser.run("return location.pathname") == "/"


def test_a_camera_that_ends_disappears_and_a_lost_device_is_said(browser, cameras):
    open_page(browser, cameras)
    cameras["gate-2"].close()
    browser.wait_until("document.querySelectorAll('#cameras li').length === 2")
    for sink in cameras.values():
        sink.close()
    browser.wait_until("document.body.classList.contains('away')")
    assert "no connection to the device" in browser.run("return document.body.innerText")


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_cut_off_on_a_narrow_or_a_wide_screen(browser, cameras, width):
    for sink in cameras.values():
        sink.write(result())
    browser.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    open_page(browser, cameras)
    try:
        assert browser.run("return document.documentElement.scrollWidth") <= width
    finally:
        browser.devtools("Emulation.clearDeviceMetricsOverride")
