"""The live page in a real browser."""

import base64
import contextlib
import http.server
import ipaddress
import json
import re
import threading
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edgeclf_runtime.capture.camera import Camera
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.errors import EndOfStream
from edgeclf_runtime.images.frame import Frame
from edgeclf_runtime.results import Result, StreamEvent, StreamResult
from edgeclf_runtime.sinks.live.access import Access
from edgeclf_runtime.sinks.live.sink import LiveSink
from edgeclf_runtime.streaming.stream import stream
from tests.runtime.sinks.test_live_proxy import Proxy, readme_lines
from tests.support.attackers import crowd
from tests.support.results import result

WAIT_S = 60


class Slides(Camera):
    """The bundle's golden images over and over, each in another light, until it is stopped."""

    def __init__(self, bundle):
        self.images = [cv2.imread(str(path)) for path in sorted(bundle.glob("golden/*.png"))]
        self.number = 0
        self.stopped = threading.Event()

    def read(self, timeout_s=None):
        if self.stopped.wait(0.05):
            raise EndOfStream("stopped")
        self.number += 1
        image = cv2.resize(self.images[self.number // 4 % len(self.images)], (160, 120))
        image = cv2.addWeighted(image, 1, image, 0, self.number % 4 * 10)
        return Frame(image, self.number, time.time(), time.monotonic(), 1.0, "")


class Show:
    """A classifier's stream of Slides on a live page; ``seen`` holds the labels so far."""

    def __init__(self, bundle, access=None):
        self.bundle, self.camera, self.seen = bundle, Slides(bundle), []
        self.classifier = Classifier.open(bundle, "fp32")
        self.sink = LiveSink(":0", self.classifier.labels, "Digits <b>&amp;", access)
        self.start()

    def start(self):
        self.camera.stopped.clear()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        for item in stream(self.classifier, self.camera):
            self.seen.append(item.result)
            self.sink.write(item)

    def stop(self):
        self.camera.stopped.set()
        self.thread.join()

    def close(self):
        self.stop()
        self.sink.close()
        self.classifier.close()


@pytest.fixture
def show(bundle, browser):
    with contextlib.closing(Show(bundle)) as running:
        browser.open(running.sink.url)
        yield running
        browser.open("about:blank")


PICTURE = """
const picture = document.getElementById("picture"), canvas = document.createElement("canvas");
if (!picture.naturalWidth) return "";
[canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
canvas.getContext("2d").drawImage(picture, 0, 0);
return canvas.toDataURL("image/png");
"""


@pytest.mark.slow
def test_the_picture_that_is_shown_changes(browser, show):
    browser.wait_until("document.body.classList.contains('seen')")
    first = browser.run(PICTURE)
    pixels = decode(first)
    assert pixels.shape == (120, 160, 3)
    assert pixels.std() > 10
    end = time.monotonic() + WAIT_S
    while browser.run(PICTURE) == first:
        assert time.monotonic() < end, "the picture stands still"


def decode(url):
    data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def test_each_image_is_shown_when_it_comes_and_not_with_the_next_one(browser):
    with LiveSink(":0", ["cat"]) as sink:
        sink.write(result(image=np.zeros((48, 64, 3), np.uint8)))
        browser.open(sink.url)
        browser.wait_until("document.getElementById('waiting').innerText === 'waiting for the next image'")
        end = time.monotonic() + WAIT_S
        while not streams_of_pictures(sink):
            assert time.monotonic() < end, "the page asks for no pictures"
        for shade in (40, 200):
            sink.write(result(image=np.full((48, 64, 3), shade, np.uint8)))
            shown = f"(() => {{ {PICTURE} }})()"
            while (url := browser.run(f"return {shown}")) == "" or decode(url).mean().round() != shade:
                assert time.monotonic() < end, "the picture is not shown"
        browser.open("about:blank")


@pytest.mark.slow
def test_the_label_and_the_confidences_that_are_shown_are_the_classifiers(browser, show):
    browser.wait_until("document.querySelectorAll('#bars li').length")
    show.stop()
    last = show.seen[-1]
    browser.wait_until(f"document.getElementById('frames').textContent === '{len(show.seen)}'")
    shown = {name: browser.run(f"return document.getElementById('{name}').textContent") for name in FACTS}
    assert shown["label"] == last.label
    assert shown["confidence"] == f"{100 * last.confidence:.1f} %"
    assert (shown["model"], shown["backend"]) == (last.model, last.backend)
    assert shown["title"] == "Digits <b>&amp;"
    bars = browser.run("return [...document.querySelectorAll('#bars li')].map(row => row.innerText.split('\\n'))")
    confidences = dict(last.top)
    assert bars == [[label, f"{100 * confidences[label]:.1f} %"] for label in show.classifier.labels]


FACTS = ("label", "confidence", "model", "backend", "title")


@pytest.mark.parametrize("name", ["unknown", "UNKNOWN"])
def test_a_label_named_unknown_is_told_from_one_that_was_rejected(browser, name):
    labels = [name, "defective"]
    kept = Result(name, 0.9, [(name, 0.9), ("defective", 0.1)], {}, "fp32", "none")
    top = [("defective", 0.627), (name, 0.373)]
    rejected = Result("unknown", 0.627, top, {}, "fp32", "none", rejected=True, candidate="defective")
    frame = Frame(np.zeros((48, 64, 3), np.uint8), 0, time.time(), time.monotonic(), 1.0, "")
    texts = ("label", "confidence")
    shown = ", ".join(f"document.getElementById('{name}').innerText" for name in texts)
    shown = f"[{shown}, document.body.classList.contains('unknown'), document.title]"
    with LiveSink(":0", labels, "cells") as sink:
        browser.open(sink.url)
        for result, expected in (
            (kept, [name, "90.0 %", False, f"{name} \u00b7 cells"]),
            (rejected, ["unknown", "(defective 62.7 %)", True, "unknown (defective 62.7 %) \u00b7 cells"]),
        ):
            sink.write(StreamResult(frame, result, 1.0))
            browser.wait_until(
                f"JSON.stringify({shown}) === {json.dumps(json.dumps(expected, ensure_ascii=False, separators=(',', ':')))}"
            )
        browser.open("about:blank")


def test_the_page_works_behind_a_proxy_in_a_folder_of_its_own(browser, bundle, tmp_path):
    access = Access(token=b"a token of some length", proxies=(ipaddress.ip_network("127.0.0.1"),))
    with contextlib.ExitStack() as stack:
        show = stack.enter_context(contextlib.closing(Show(bundle, access)))
        proxy = Proxy(tmp_path, show.sink, readme_lines())
        stack.callback(proxy.stop)
        browser.open(f"http://127.0.0.1:{proxy.port}/line4/?token=a%20token%20of%20some%20length")
        assert browser.wait_until("location.href") == f"http://127.0.0.1:{proxy.port}/line4/"
        browser.wait_until("document.body.classList.contains('live') && document.body.classList.contains('seen')")
        first = browser.wait_until("document.getElementById('frames').innerText")
        browser.wait_until(f"document.getElementById('frames').innerText !== {json.dumps(first)}")
        browser.open("about:blank")


def test_a_lost_camera_is_told_on_the_page_until_it_is_back(browser, show):
    browser.wait_until("document.body.className.includes('live')")
    show.stop()
    show.sink.event(StreamEvent("lost", "the cable <i>was</i> pulled", time.time()))
    told = browser.wait_until("document.getElementById('trouble').innerText")
    assert told.startswith("camera lost since ")
    assert told.endswith(": the cable <i>was</i> pulled")
    show.start()
    browser.wait_until("document.getElementById('trouble').hidden")
    assert browser.run("return document.getElementById('state').innerText") == "live"


@pytest.mark.slow
def test_a_page_whose_device_went_away_says_so_and_goes_on_when_it_is_back(browser, show):
    browser.wait_until("document.body.classList.contains('seen')")
    show.stop()
    show.sink.close()
    assert "no connection to the device since" in browser.wait_until("document.getElementById('trouble').innerText")
    show.sink = LiveSink(str(urlsplit(show.sink.url).port), show.classifier.labels)
    show.start()
    browser.wait_until("document.body.classList.contains('live')")
    first = browser.run(PICTURE)
    browser.wait_until(f"(() => {{ {PICTURE} }})() !== {json.dumps(first)}")


@pytest.mark.slow
def test_a_page_whose_stream_of_pictures_was_ended_asks_for_another(browser, show):
    browser.wait_until("document.body.classList.contains('seen')")
    (first,) = streams_of_pictures(show.sink)
    first.end()
    end = time.monotonic() + WAIT_S
    while not set(streams_of_pictures(show.sink)) - {first}:
        assert time.monotonic() < end, "the picture stands still"
    first = browser.run(PICTURE)
    browser.wait_until(f"(() => {{ {PICTURE} }})() !== {json.dumps(first)}")


def streams_of_pictures(sink):
    return [client for client in list(sink._server.clients._clients) if client.watching == "pictures"]


REQUEST = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
ATTACKS = {
    "silent": (b"", ["127.0.0.1"]),
    "slow headers": (b"GET / HTTP/1.1\r\nX-Slow: ", ["127.0.0.1"]),
    "pictures that nobody reads": (REQUEST % b"picture.mjpg", ["127.0.0.1"]),
    "events that nobody reads": (REQUEST % b"events", ["127.0.0.1"]),
    "several machines": (REQUEST % b"picture.mjpg", [f"127.0.0.{number}" for number in range(2, 10)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_page_works_while_others_hold_on_to_every_place(browser, show, attack):
    sent, addresses = ATTACKS[attack]
    with crowd(show.sink, 100, sent, addresses, receive_bytes=2048):
        browser.open(show.sink.url)
        browser.wait_until("['seen', 'live'].every(name => document.body.classList.contains(name))")
        first = browser.run(PICTURE)
        browser.wait_until(f"(() => {{ {PICTURE} }})() !== {json.dumps(first)}")
        with crowd(show.sink, 100, sent, addresses, receive_bytes=2048):
            count = len(show.seen)
            browser.wait_until(f"Number(document.getElementById('frames').textContent) > {count}")
            first = browser.run(PICTURE)
            browser.wait_until(f"(() => {{ {PICTURE} }})() !== {json.dumps(first)}")


HOSTILE = "<img src=x onerror=document.body.id='hacked'>"


def test_names_are_shown_as_text_whatever_is_in_them(browser):
    result = Result(HOSTILE, 0.75, [(HOSTILE, 0.75), ("</script>", 0.25)], {HOSTILE: 1.0}, HOSTILE, HOSTILE, None)
    item = StreamResult(Frame(np.zeros((48, 64, 3), np.uint8), 0, 0.0, time.monotonic(), 1.0, HOSTILE), result, 1.0)
    with LiveSink(":0", [HOSTILE, "</script>"], HOSTILE) as sink:
        browser.open(sink.url)
        sink.write(item)
        browser.wait_until(f"document.getElementById('model').textContent === {json.dumps(HOSTILE)}")
        shown = {name: browser.run(f"return document.getElementById('{name}').textContent") for name in FACTS}
        assert [shown[name] for name in ("label", "model", "backend", "title")] == [HOSTILE] * 4
        sink.event(StreamEvent("lost", HOSTILE, 0.0))
        assert browser.wait_until("document.getElementById('trouble').innerText").endswith(HOSTILE)
        assert browser.run("return [document.images.length, document.body.id]") == [1, ""]
        browser.open("about:blank")


def test_the_token_opens_the_page_and_does_not_stay_in_the_address_bar(browser):
    with LiveSink("0.0.0.0:0", []) as sink:
        plain = f"http://127.0.0.1:{urlsplit(sink.url).port}/"
        token = urlsplit(sink.invitation).query
        browser.open(plain)
        assert "a token is required" in browser.run("return document.body.innerText")
        browser.open(plain + "?" + token)
        browser.wait_until("document.getElementById('state').innerText.startsWith('waiting')")
        assert browser.run("return [location.href, document.cookie]") == [plain, ""]
        browser.complaints()
        browser.open("about:blank")


def test_the_token_can_be_typed(browser):
    with LiveSink("0.0.0.0:0", [], access=Access(token=b"a b+c&d")) as sink:
        browser.open(f"http://127.0.0.1:{urlsplit(sink.url).port}/")
        browser.run("document.querySelector('input').value = 'a b+c&d'; document.querySelector('button').click()")
        browser.wait_until("document.getElementById('state').innerText.startsWith('waiting')")
        browser.complaints()
        browser.open("about:blank")


def test_a_link_on_another_site_with_the_token_opens_the_page(browser):
    with LiveSink("0.0.0.0:0", []) as sink, LiveSink("0.0.0.0:0", [], access=Access(public=True)) as other:
        browser.open(f"http://localhost:{urlsplit(other.url).port}/")
        url = f"http://127.0.0.1:{urlsplit(sink.url).port}/"
        browser.run("location.href = arguments[0]", f"{url}?{urlsplit(sink.invitation).query}")
        browser.wait_until(f"location.href === '{url}' && document.getElementById('state')")
        browser.wait_until("document.getElementById('state').innerText.startsWith('waiting')")
        browser.complaints()
        browser.open("about:blank")


class AnotherSite(http.server.BaseHTTPRequestHandler):
    """A page that may do what it wants."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<p>another site</p>")

    def log_message(self, *arguments):
        pass


TAKE = """
const shown = new Image(), url = arguments[0];
const image = new Promise(done => { shown.onload = () => done("image"); shown.onerror = () => done("nothing"); });
shown.src = url;
return fetch(url, {mode: "no-cors", credentials: "include"}).then(() => "answer", () => image);
"""


@pytest.mark.slow
@pytest.mark.parametrize("here", ["localhost", "127.0.0.1"])
def test_another_sites_page_gets_nothing_of_it(browser, show, here):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), AnotherSite) as other:
        threading.Thread(target=other.serve_forever).start()
        try:
            browser.open(f"http://{here}:{other.server_port}/")
            for path in ("state.json", "picture.jpg", "events", "picture.mjpg", ""):
                assert browser.run(TAKE, show.sink.url + path) == "nothing"
            browser.complaints()
        finally:
            browser.open("about:blank")
            other.shutdown()


def test_a_page_that_nobody_looks_at_costs_the_device_nothing(browser, show):
    browser.wait_until("document.body.classList.contains('seen')")
    look_away = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
    look_away += "document.dispatchEvent(new Event('visibilitychange'));"
    browser.run(look_away, True)
    end = time.monotonic() + WAIT_S
    while show.sink._server.clients:
        assert time.monotonic() < end, "the page goes on watching"
    browser.run(look_away, False)
    count = len(show.seen)
    browser.wait_until(f"Number(document.getElementById('frames').textContent) > {count}")


def test_the_browser_has_nothing_to_complain_of(browser, show):
    browser.complaints()
    browser.open(show.sink.url)
    browser.wait_until("document.body.classList.contains('seen')")
    browser.wait_until("document.getElementById('legend').children.length")
    assert browser.complaints() == []


@pytest.mark.parametrize(("width", "height"), [(360, 740), (390, 844), (768, 1024), (1024, 600), (1280, 800)])
def test_the_page_fits_the_width_and_its_label_is_large(browser, show, width, height):
    browser.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True)
    browser.wait_until("document.querySelectorAll('#bars li').length")
    assert browser.run("return document.documentElement.scrollWidth") == width
    assert browser.run("return document.getElementById('label').offsetHeight") >= height / 10
    browser.devtools("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_systems_light_and_dark(browser, show, scheme):
    browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    style = "getComputedStyle(document.body)"
    ground, ink = (brightness(browser.run(f"return {style}.{name}")) for name in ("backgroundColor", "color"))
    assert (ground > ink + 150) if scheme == "light" else (ink > ground + 150)


def brightness(color):
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 3


DRAWN_RIGHT = """(() => {
  const [region, picture] = ["region", "picture"].map(id => document.getElementById(id)), box = picture.getBoundingClientRect();
  if (region.hidden) return false;
  const [wide, high] = [picture.naturalWidth, picture.naturalHeight], scale = Math.min(box.width / wide, box.height / high);
  const left = box.left + (box.width - wide * scale) / 2, top = box.top + (box.height - high * scale) / 2;
  const expected = [left + 0.5 * wide * scale, top + 0.25 * high * scale, 0.25 * wide * scale, 0.5 * high * scale];
  const found = region.getBoundingClientRect(), at = [found.left, found.top, found.width, found.height];
  return at.every((value, index) => Math.abs(value - expected[index]) < 1.5);
})()"""


def test_the_part_that_is_classified_is_drawn_over_the_picture_whatever_its_size(browser):
    with LiveSink(":0", ["cat"], region=lambda width, height: (0.5, 0.25, 0.25, 0.5)) as sink:
        browser.open(sink.url)
        for _ in range(200):
            sink.write(result(image=np.zeros((48, 64, 3), np.uint8)))
            if browser.run("return !document.getElementById('region').hidden"):
                break
        browser.wait_until(DRAWN_RIGHT)
        browser.devtools("Emulation.setDeviceMetricsOverride", width=700, height=900, deviceScaleFactor=1, mobile=False)
        try:
            browser.wait_until(DRAWN_RIGHT)
        finally:
            browser.devtools("Emulation.clearDeviceMetricsOverride")
