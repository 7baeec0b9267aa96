"""Why a result is unknown, as a real browser shows it."""

import pytest

from edgeclf_runtime.bundle.examples import example_name
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.results import Limits, NearImage
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.runtime.conftest import copied  # noqa: F401 - a fixture
from tests.support.pictures import encode, noise
from tests.support.results import result
from tests.support.sealing import replace_file

LIMITS = Limits(0.8, usual_distance=2.9, most_distance=4.0, sets=True)
NEAR = (NearImage("a label that is too long for its column", 40), NearImage("dog", 7), NearImage("cat", 40))
SIZES = [(360, 740), (390, 844), (768, 1024), (1024, 600), (1280, 800)]


@pytest.fixture
def page(copied, browser):  # noqa: F811
    (copied / "examples").mkdir()
    replace_file(copied, example_name(40), encode(".jpg", noise(48, 48)))
    with LiveSink(":0", ["unknown", "dog"], "pets", limits=lambda model: LIMITS, bundle=open_bundle(copied)) as sink:
        browser.complaints()
        yield sink
        browser.open("about:blank")


def item(reason="", distance=0.4, **fields):
    """A result with the label "unknown", whether it was rejected or is called so."""
    made = result(label="unknown", confidence=0.7, candidate="dog" if reason else None)
    fields = dict({"label_set": ("dog", "unknown")}, **fields)
    return made._replace(result=made.result._replace(reason=reason, distance=distance, **fields))


def text(browser, name):
    return browser.run(f"return document.getElementById('{name}').innerText")


def test_an_unknown_result_is_explained_with_words_labels_and_pictures(browser, page):
    page.write(item("distance", 6.2, nearest=NEAR))
    browser.open(page.url)
    browser.wait_until(
        "[...document.querySelectorAll('#nearest img[src]')].filter(image => image.naturalWidth === 48).length === 2"
    )
    assert text(browser, "why") == "like no training image: distance 6.2, usual is up to 2.9"
    assert text(browser, "set") == "possible labels: dog, unknown"
    assert text(browser, "nearest").split("\n") == ["nearest training images", *(near.label for near in NEAR)]
    assert text(browser, "bars") == ""
    page.write(item("confidence", label_set=()))
    browser.wait_until("document.getElementById('why').innerText === 'confidence 70.0 % is below 80 %'")
    assert text(browser, "set") == "possible labels: none"
    assert text(browser, "nearest") == ""
    page.write(item())
    browser.wait_until("document.getElementById('why').innerText === 'distance 0.4, usual is up to 2.9'")
    assert not browser.run("return document.body.classList.contains('unknown')")
    assert browser.complaints() == []


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_moves_when_a_result_becomes_unknown(browser, page, width, height):
    browser.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True)
    places = "JSON.stringify(['label', 'confidence', 'why', 'set', 'below'].map(name => at(name).getBoundingClientRect().top))"
    kinds = {"": item(), "confidence": item("confidence"), "distance": item("distance", 26.2, nearest=NEAR)}
    page.write(kinds[""])
    browser.open(page.url)
    found = {}
    for reason, one in kinds.items():
        page.write(one)
        browser.wait_until(f"verdict === 'unknown {reason}'")
        found[reason] = browser.run(f"return {places}")
        assert browser.run("return document.documentElement.scrollWidth") == width
    assert len(set(found.values())) == 1, found
    browser.devtools("Emulation.clearDeviceMetricsOverride")


def test_a_lasting_verdict_is_not_rewritten_with_every_frame(browser, page):
    page.write(item("distance", 6.2, nearest=NEAR))
    browser.open(page.url)
    browser.wait_until("verdict")
    browser.run("window.written = 0; new MutationObserver(() => ++written).observe(at('why'), {childList: true})")
    browser.run("explained = Date.now() + 1e6")
    for number in range(5):
        page.write(item("distance", 7.0 + number, nearest=NEAR[number % 2 :]))
        browser.wait_until(f"Number(at('frames').textContent) >= {number + 1}")
    assert browser.run("return [written, at('why').textContent]") == [
        0,
        "like no training image: distance 6.2, usual is up to 2.9",
    ]
    browser.run("explained = 0")
    page.write(item("distance", 9.0, nearest=NEAR))
    browser.wait_until("at('why').textContent.includes('distance 9.0')")


def test_labels_without_pictures_are_listed(browser, tmp_path):
    with LiveSink(":0", ["unknown", "dog"], limits=lambda model: LIMITS) as sink:
        sink.write(item("distance", 6.2, nearest=NEAR[1:]))
        browser.open(sink.url)
        browser.wait_until("document.getElementById('nearest').innerText.includes('dog')")
        assert text(browser, "nearest").split("\n") == ["nearest training images", "dog", "cat"]
        assert browser.run("return [...document.querySelectorAll('#nearest img')].every(image => !image.offsetWidth)")
        browser.open("about:blank")
