"""The live page in a real browser: Chromium, told what to do over WebDriver, which is JSON over HTTP."""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edgeclf_runtime.classifier import Classifier
from edgeclf_runtime.errors import EndOfStream
from edgeclf_runtime.frames import Camera, Frame
from edgeclf_runtime.sinks.live import LiveSink
from edgeclf_runtime.stream import StreamEvent, stream

WAIT_S = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # It would look up its maker's hosts all the same.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.*, EXCLUDE [::1]",
)


class Browser:
    """A Chromium without a window."""

    def __init__(self, driver, profile):
        self.driver = driver
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._post("session", capabilities={"alwaysMatch": wanted})
        self.session = f"session/{session['sessionId']}"

    def _post(self, command, **arguments):
        body = json.dumps(arguments).encode()
        request = urllib.request.Request(f"{self.driver}/{command}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return json.load(answer)["value"]

    def open(self, url):
        self._post(f"{self.session}/url", url=url)

    def run(self, script, *arguments):
        """What a function of this JavaScript body returns."""
        return self._post(f"{self.session}/execute/sync", script=script, args=arguments)

    def devtools(self, command, **parameters):
        return self._post(f"{self.session}/goog/cdp/execute", cmd=command, params=parameters)

    def complaints(self):
        """What stands in the browser's console."""
        return [entry["message"] for entry in self._post(f"{self.session}/se/log", type="browser")]

    def wait_until(self, script):
        """Return what a JavaScript expression gives, once that is true."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            value = self.run(f"return {script}")
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"{script} did not come true; the page says: {self.run('return document.body.innerText')}")

    def close(self):
        request = urllib.request.Request(f"{self.driver}/{self.session}", method="DELETE")
        urllib.request.urlopen(request, timeout=WAIT_S).close()


@contextlib.contextmanager
def chromium(profile):
    """A Browser, of the Chromium and the chromedriver that are installed."""
    # Of its own: an identifier for reports of crashes is kept there.
    environment = {**os.environ, "HOME": str(profile)}
    with subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True, env=environment) as driver:
        try:
            line = next(line for line in driver.stdout if "started successfully on port" in line)
            port = line.split()[-1].rstrip(".")
            browser = Browser(f"http://127.0.0.1:{port}", profile)
            with contextlib.closing(browser):
                yield browser
        finally:
            driver.terminate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    for program in ("chromium", "chromedriver"):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing: apt-get install chromium chromium-driver")
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


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

    def __init__(self, bundle):
        self.bundle, self.camera, self.seen = bundle, Slides(bundle), []
        self.classifier = Classifier.open(bundle, "fp32")
        self.sink = LiveSink(":0", self.classifier.labels, "Digits <b>&amp;")
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


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
